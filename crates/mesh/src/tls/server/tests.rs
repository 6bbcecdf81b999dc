use std::path::Path;

use rustls::{ProtocolVersion, pki_types::CertificateDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::tls::{
    client::{self, Connector},
    testing::{Authority, Certified, from_files},
};

fn acceptor(contexts: &[TlsContext]) -> Acceptor {
    Acceptor::build(contexts, &Options::default()).unwrap().unwrap()
}

fn from_folder(folder: &Path) -> Acceptor {
    let options = Options {
        folders: vec![folder.to_owned()],
        ..Options::default()
    };
    Acceptor::build(&[from_files()], &options).unwrap().unwrap()
}

/// A round of bytes after the handshake: only then does a client know that it is let in.
async fn meet(
    acceptor: &Acceptor,
    context: &TlsContext,
    name: &str,
) -> io::Result<client::TlsStream<DuplexStream>> {
    let connector = Connector::new(context, &[]).unwrap().unwrap();
    let (near, far) = duplex(1 << 16);
    let serve = async {
        let (mut stream, _) = acceptor.accept(far).await?;
        stream.write_all(b"x").await?;
        stream.flush().await
    };
    let ask = async {
        let mut stream = connector.connect(near, name).await?;
        stream.read_u8().await?;
        Ok::<_, io::Error>(stream)
    };
    let (served, asked) = tokio::join!(serve, ask);
    served.and(asked)
}

fn shown(stream: &client::TlsStream<DuplexStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

fn leaf(certified: &Certified) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(certified.chain.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_gets_through_with_the_newest_version() {
    let authority = Authority::new();
    let acceptor = acceptor(&[authority.server(&["a.test"])]);
    let stream = meet(&acceptor, &authority.client(), "a.test").await.unwrap();
    assert_eq!(
        stream.get_ref().1.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
}

#[tokio::test]
async fn max_version_holds_both_ends_to_tls_1_2() {
    let authority = Authority::new();
    let mut old = authority.server(&["a.test"]);
    old.max_version = "TLSv1_2".into();
    let stream = meet(&acceptor(&[old.clone()]), &authority.client(), "a.test")
        .await
        .unwrap();
    assert_eq!(
        stream.get_ref().1.protocol_version(),
        Some(ProtocolVersion::TLSv1_2)
    );
    let mut modern = authority.client();
    modern.min_version = "TLSv1_3".into();
    meet(&acceptor(&[old]), &modern, "a.test").await.unwrap_err();
}

// deviation: D058
#[tokio::test]
async fn a_client_that_offers_only_tls_1_1_is_refused() {
    let authority = Authority::new();
    let acceptor = acceptor(&[authority.server(&["a.test"])]);
    let (mut near, far) = duplex(1 << 16);
    let hello = client_hello([3, 2]);
    let ask = async {
        near.write_all(&hello).await.unwrap();
        let mut alert = [0; 7];
        near.read_exact(&mut alert).await.unwrap();
        alert
    };
    let (served, alert) = tokio::join!(acceptor.accept(far), ask);
    assert!(served.is_err());
    // A fatal alert: protocol_version (RFC 5246, section 7.2).
    assert_eq!((alert[0], &alert[5..]), (21, &[2, 70][..]));
}

/// The first message of a client whose newest version is `version`.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    // One suite of old, no compression, and the signature algorithms that TLS 1.2 brought.
    body.extend([0, 2, 0xc0, 0x13, 1, 0]);
    body.extend([0, 16, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

fn mutual(authority: &Authority) -> TlsContext {
    TlsContext {
        ca_cert: authority.pem.clone(),
        verify_client: true,
        require_client_cert: true,
        ..authority.server(&["a.test"])
    }
}

fn with_certificate(client: TlsContext, from: &Authority) -> TlsContext {
    TlsContext {
        ca_cert: client.ca_cert,
        ..from.server(&["client.test"])
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let authority = Authority::new();
    let acceptor = acceptor(&[mutual(&authority)]);
    meet(&acceptor, &authority.client(), "a.test").await.unwrap_err();
    let known = with_certificate(authority.client(), &authority);
    meet(&acceptor, &known, "a.test").await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_even_where_none_is_required() {
    let authority = Authority::new();
    let mut context = mutual(&authority);
    context.require_client_cert = false;
    let acceptor = acceptor(&[context]);
    meet(&acceptor, &authority.client(), "a.test").await.unwrap();
    let foreign = with_certificate(authority.client(), &Authority::new());
    meet(&acceptor, &foreign, "a.test").await.unwrap_err();
}

#[tokio::test]
async fn require_client_cert_alone_asks_and_checks_nothing() {
    let authority = Authority::new();
    let mut context = authority.server(&["a.test"]);
    context.require_client_cert = true;
    let acceptor = acceptor(&[context]);
    meet(&acceptor, &authority.client(), "a.test").await.unwrap();
    let foreign = with_certificate(authority.client(), &Authority::new());
    meet(&acceptor, &foreign, "a.test").await.unwrap();
}

#[tokio::test]
async fn the_name_chooses_exact_before_wildcard_before_the_first() {
    let authority = Authority::new();
    let first = authority.certify(&["first.test"]);
    let wild = authority.certify(&["*.b.test"]);
    let exact = authority.certify(&["x.b.test"]);
    let acceptor = acceptor(&[first.context(), wild.context(), exact.context()]);
    for (name, expected) in [
        ("x.b.test", &exact),
        ("X.B.test", &exact),
        ("y.b.test", &wild),
        ("first.test", &first),
    ] {
        let stream = meet(&acceptor, &authority.client(), name).await.unwrap();
        assert!(shown(&stream) == leaf(expected), "{name}");
    }
    let mut careless = authority.client();
    careless.insecure_skip = true;
    for name in ["b.test", "z.y.b.test", "other.test"] {
        let stream = meet(&acceptor, &careless, name).await.unwrap();
        assert!(shown(&stream) == leaf(&first), "{name}");
    }
}

#[tokio::test]
async fn the_protocol_chooses_among_contexts_of_one_name() {
    let authority = Authority::new();
    let (one, two) = (authority.certify(&["a.test"]), authority.certify(&["a.test"]));
    let with = |certified: &Certified, alpn: &str| TlsContext {
        alpn: alpn.into(),
        ..certified.context()
    };
    let acceptor = acceptor(&[with(&one, "http/1.1"), with(&two, "h2")]);
    let mut client = authority.client();
    client.alpn = "h2".into();
    let stream = meet(&acceptor, &client, "a.test").await.unwrap();
    assert!(shown(&stream) == leaf(&two));
    assert_eq!(client::agreed(&stream), Some(crate::upstream::Protocol::Http2));
}

#[tokio::test]
async fn a_replaced_file_is_served_to_the_next_client() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (old, new) = (authority.certify(&["a.test"]), authority.certify(&["a.test"]));
    old.write(folder.path());
    let acceptor = from_folder(folder.path());
    let stream = meet(&acceptor, &authority.client(), "a.test").await.unwrap();
    assert!(shown(&stream) == leaf(&old));
    new.write(folder.path());
    let stream = meet(&acceptor, &authority.client(), "a.test").await.unwrap();
    assert!(shown(&stream) == leaf(&new));
}

#[tokio::test]
async fn a_swapped_link_to_a_folder_is_followed() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (old, new) = (authority.certify(&["a.test"]), authority.certify(&["a.test"]));
    for (name, certified) in [("1", &old), ("2", &new)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        certified.write(&folder.path().join(name));
    }
    // As the kubelet does it: files are links through a link that is swapped whole.
    let link =
        |target: &str, name: &str| std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
    link("1", "data");
    link("data/tls.crt", "tls.crt");
    link("data/tls.key", "tls.key");
    let acceptor = from_folder(folder.path());
    meet(&acceptor, &authority.client(), "a.test").await.unwrap();
    link("2", "next");
    std::fs::rename(folder.path().join("next"), folder.path().join("data")).unwrap();
    let stream = meet(&acceptor, &authority.client(), "a.test").await.unwrap();
    assert!(shown(&stream) == leaf(&new));
}

#[tokio::test]
async fn a_broken_file_leaves_the_old_certificate_in_use_until_it_is_mended() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (old, new) = (authority.certify(&["a.test"]), authority.certify(&["a.test"]));
    old.write(folder.path());
    let acceptor = from_folder(folder.path());
    // The certificate is there, its key is not yet.
    std::fs::write(folder.path().join("tls.crt"), &new.chain).unwrap();
    for _ in 0..2 {
        let stream = meet(&acceptor, &authority.client(), "a.test").await.unwrap();
        assert!(shown(&stream) == leaf(&old));
    }
    new.write(folder.path());
    let stream = meet(&acceptor, &authority.client(), "a.test").await.unwrap();
    assert!(shown(&stream) == leaf(&new));
}

#[test]
fn what_a_listener_cannot_do_without_is_asked_for_by_name() {
    let authority = Authority::new();
    let error = |context: TlsContext| {
        let built = Acceptor::build(&[TlsContext::default(), context], &Options::default());
        built.unwrap_err().path
    };
    let bare = TlsContext {
        status: true,
        ..TlsContext::default()
    };
    assert_eq!(error(bare), "[1].cert_chain");
    let mut unverifiable = mutual(&authority);
    unverifiable.ca_cert.clear();
    assert_eq!(error(unverifiable), "[1].ca_cert");
    let mut mixed = authority.server(&["a.test"]);
    mixed.private_key = authority.server(&["a.test"]).private_key;
    assert_eq!(error(mixed), "[1].private_key");
    assert_eq!(error(from_files()), "[1].cert_chain");
}

#[test]
fn a_key_without_its_armour_is_not_shown_in_the_error() {
    let bare = "MIGHAgEAMBMGByqGSM49";
    let mut context = Authority::new().server(&["a.test"]);
    context.private_key = layotto_core::Secret::new(bare.into());
    let error = Acceptor::build(&[context], &Options::default()).unwrap_err();
    assert_eq!(error.path, "private_key");
    assert!(!error.to_string().contains(bare), "{error}");
}

#[test]
fn contexts_that_are_off_are_no_acceptor() {
    assert!(
        Acceptor::build(&[TlsContext::default()], &Options::default())
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn only_a_certificate_that_was_verified_is_told() {
    let authority = Authority::new();
    let client = with_certificate(authority.client(), &authority);
    for verify_client in [true, false] {
        let mut context = mutual(&authority);
        context.verify_client = verify_client;
        let acceptor = acceptor(&[context]);
        let connector = Connector::new(&client, &[]).unwrap().unwrap();
        let (near, far) = duplex(1 << 16);
        let (served, asked) = tokio::join!(acceptor.accept(far), connector.connect(near, "a.test"));
        asked.unwrap();
        let (_, peer) = served.unwrap();
        assert_eq!(peer.certificate.is_some(), verify_client);
        assert_eq!(peer.server_name.as_deref(), Some("a.test"));
    }
}
