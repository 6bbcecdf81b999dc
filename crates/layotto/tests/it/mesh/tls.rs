//! TLS: of listeners, of clients that show certificates, towards hosts, and plain text beside it.

use std::{path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use super::{
    clients::{Ask, Http1, Http2, get},
    peer::Peer,
    plan::{Plan, listener, replace, to, until},
};
use crate::sidecar::free_port;

/// An authority and what it signed for `localhost`.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

#[derive(Clone)]
struct Certified {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn certify(&self, name: &str) -> Certified {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Certified {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        roots
    }
}

impl Certified {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    fn context(&self) -> Value {
        json!({"status": true, "cert_chain": self.chain, "private_key": self.key})
    }

    fn write(&self, folder: &Path) {
        replace(&folder.join("tls.key"), &self.key);
        replace(&folder.join("tls.crt"), &self.chain);
    }
}

fn connector(trusted: &Authority, own: Option<&Certified>, alpn: &[&str]) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted.roots());
    let mut config = match own {
        Some(own) => config.with_client_auth_cert(own.chain(), own.key()).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn secure(
    port: u16,
    trusted: &Authority,
    own: Option<&Certified>,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    connector(trusted, own, alpn).connect(name, stream).await
}

/// A service that speaks TLS and, with `clients`, wants certificates.
fn acceptor(own: &Certified, clients: Option<&Authority>) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        Some(clients) => {
            let roots = Arc::new(clients.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_single_cert(own.chain(), own.key()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn plan(port: u16, peer: &Peer, context: Value) -> Plan {
    let mut plan = Plan::web(port, json!([to("/", "c", json!({}))])).cluster("c", [peer], json!({}));
    plan.listeners[0]["filter_chains"][0]["tls_context"] = context;
    plan
}

#[tokio::test]
async fn a_listener_speaks_tls_over_both_versions_of_http_and_nothing_else() {
    let authority = Authority::new();
    let peer = Peer::start("a").await;
    let port = free_port();
    let _running = plan(port, &peer, authority.certify("localhost").context()).run();
    let stream = secure(port, &authority, None, &["h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let reply = Http2::over(stream).await.send(&Ask::get("/")).await.unwrap();
    assert_eq!(reply.json()["version"], "HTTP/2.0");
    for alpn in [&["http/1.1"][..], &[]] {
        let stream = secure(port, &authority, None, alpn).await.unwrap();
        let reply = Http1::over(stream).await.send(&Ask::get("/")).await.unwrap();
        assert_eq!(reply.json()["version"], "HTTP/1.1");
    }
    assert!(
        secure(port, &Authority::new(), None, &[]).await.is_err(),
        "a stranger's certificate"
    );
    let plain = Http1::connect(port).await.send(&Ask::get("/")).await;
    assert!(plain.is_err(), "{plain:?}");
    assert_eq!(peer.requests(), 3);
}

#[tokio::test]
async fn an_inspector_lets_plain_text_in_beside_tls() {
    let authority = Authority::new();
    let peer = Peer::start("a").await;
    let port = free_port();
    let mut plan = plan(port, &peer, authority.certify("localhost").context());
    plan.listeners[0]["inspector"] = json!(true);
    let _running = plan.run();
    let stream = secure(port, &authority, None, &[]).await.unwrap();
    let reply = Http1::over(stream).await.send(&Ask::get("/")).await.unwrap();
    assert_eq!(reply.peer(), "a");
    assert_eq!(get(port, "/").await.peer(), "a");
    assert_eq!(Ask::get("/").http2(port).await.peer(), "a");
}

#[tokio::test]
async fn clients_must_show_a_certificate_that_is_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let peer = Peer::start("a").await;
    let port = free_port();
    let mut context = authority.certify("localhost").context();
    context["ca_cert"] = json!(authority.pem);
    context["verify_client"] = json!(true);
    context["require_client_cert"] = json!(true);
    let _running = plan(port, &peer, context).run();
    let answered = async |own: Option<&Certified>| {
        let Ok(stream) = secure(port, &authority, own, &[]).await else {
            return false;
        };
        Http1::over(stream).await.send(&Ask::get("/")).await.is_ok()
    };
    assert!(answered(Some(&authority.certify("client"))).await);
    assert!(!answered(None).await);
    assert!(!answered(Some(&stranger.certify("client"))).await);
    assert_eq!(peer.requests(), 1);
}

#[tokio::test]
async fn hosts_are_spoken_to_in_tls_and_must_prove_who_they_are() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let certified = authority.certify("service.test");
    let client = authority.certify("client");
    let right = json!({"status": true, "ca_cert": authority.pem, "server_name": "service.test"});
    let with = |key: &str, value: Value| super::plan::merged(right.clone(), &json!({key: value}));
    let mutual = super::plan::merged(right.clone(), &client.context());
    for (name, wants, context, works) in [
        ("right", false, right.clone(), true),
        (
            "another name",
            false,
            with("server_name", json!("other.test")),
            false,
        ),
        (
            "another authority",
            false,
            with("ca_cert", json!(stranger.pem)),
            false,
        ),
        (
            "skip",
            false,
            json!({"status": true, "insecure_skip": true, "server_name": "x.test"}),
            true,
        ),
        ("no certificate", true, right.clone(), false),
        ("a certificate", true, mutual, true),
        ("plain", false, json!({"status": false}), false),
    ] {
        let peer = Peer::secure("a", acceptor(&certified, wants.then_some(&authority))).await;
        let port = free_port();
        let more = json!({"tls_context": context});
        let _running = Plan::web(port, json!([to("/", "c", json!({}))]))
            .cluster("c", [&peer], more)
            .run();
        for (reply, version) in [
            (Ask::get("/").http1(port).await, "HTTP/1.1"),
            (Ask::get("/").http2(port).await, "HTTP/2.0"),
        ] {
            match works {
                true => assert_eq!(reply.json()["version"], version, "{name}: {reply:?}"),
                false => assert_eq!(reply.status, 502, "{name}: {reply:?}"),
            }
        }
    }
}

async fn certificate(port: u16, trusted: &Authority) -> Option<Vec<u8>> {
    let stream = secure(port, trusted, None, &[]).await.ok()?;
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    Some(shown.to_vec())
}

#[tokio::test]
async fn a_changed_certificate_is_shown_to_new_connections_and_the_old_ones_stay() {
    let authority = Authority::new();
    let peer = Peer::start("a").await;
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let (first, second, third) = (
        authority.certify("localhost"),
        authority.certify("localhost"),
        authority.certify("localhost"),
    );
    first.write(folder.path());
    let from_files = json!({"status": true, "cert_chain": "tls.crt", "private_key": "tls.key"});
    let plan_of = |context: Value| plan(port, &peer, context);
    let running = plan_of(from_files).run_in(folder, &[]);
    let stream = secure(port, &authority, None, &["h2"]).await.unwrap();
    let old = Http2::over(stream).await;
    assert_eq!(old.send(&Ask::get("/")).await.unwrap().peer(), "a");
    let shows = async |wanted: &Certified| {
        certificate(port, &authority).await.as_deref() == Some(wanted.chain()[0].as_ref())
    };
    assert!(shows(&first).await);
    // The files change.
    second.write(running.folder.path());
    running.process.signal(rustix::process::Signal::HUP);
    until("the second certificate", async || shows(&second).await).await;
    // The configuration does.
    running.write(&plan_of(third.context()));
    until("the third certificate", async || shows(&third).await).await;
    assert_eq!(old.send(&Ask::get("/")).await.unwrap().peer(), "a");
    // A certificate that is none changes nothing.
    let broken = json!({"status": true, "cert_chain": "none", "private_key": "none"});
    running.write(&plan_of(broken));
    running.wait_for_log("nothing changes").await;
    assert!(shows(&third).await);
    assert!(!running.process.output().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn bytes_pass_through_a_tls_listener_to_a_cluster() {
    let authority = Authority::new();
    let peer = Peer::start("a").await;
    let port = free_port();
    let mut raw = listener(
        "raw",
        port,
        json!({"type": "tcp_proxy", "config": {"cluster": "c"}}),
    );
    raw["filter_chains"][0]["tls_context"] = authority.certify("localhost").context();
    let _running = Plan::default()
        .listener(raw)
        .cluster("c", [&peer], json!({}))
        .run();
    let stream = secure(port, &authority, None, &[]).await.unwrap();
    let reply = Http1::over(stream).await.send(&Ask::get("/")).await.unwrap();
    assert_eq!(reply.peer(), "a");
}

#[tokio::test]
async fn bytes_are_passed_on_in_tls_where_the_cluster_says_so() {
    let authority = Authority::new();
    let peer = Peer::secure("a", acceptor(&authority.certify("service.test"), None)).await;
    let port = free_port();
    let raw = listener(
        "raw",
        port,
        json!({"type": "tcp_proxy", "config": {"cluster": "c"}}),
    );
    let context = json!({"status": true, "ca_cert": authority.pem, "server_name": "service.test"});
    let _running = Plan::default()
        .listener(raw)
        .cluster("c", [&peer], json!({"tls_context": context}))
        .run();
    assert_eq!(get(port, "/").await.peer(), "a");
}
