//! TLS: who is believed, and who is let in.

use layotto_core::Secret;
use layotto_testkit::certificates::{Authority, Certified};
use serde_json::json;

use super::{
    super::tls::name,
    access::{refusal, until_told, use_each},
    *,
};

/// What a client is set up with.
#[derive(Clone, Default)]
struct Setup {
    authorities: String,
    certificate: String,
    key: String,
}

impl Setup {
    fn trusting(authority: &Authority) -> Self {
        Self {
            authorities: authority.pem.clone(),
            ..Self::default()
        }
    }

    fn showing(self, certified: &Certified) -> Self {
        Self {
            certificate: certified.chain.clone(),
            key: certified.key.clone(),
            ..self
        }
    }

    fn access(&self) -> Access {
        // Two are compiled in.
        drop(rustls::crypto::ring::default_provider().install_default());
        let given = Given {
            username: "",
            password: &Secret::default(),
            enable_tls: true,
            ca_cert: &self.authorities,
            client_cert: &self.certificate,
            client_key: &Secret::new(self.key.clone()),
        };
        Access::new(&given, &Context::standalone("test", ".")).unwrap()
    }

    fn ensemble(&self, servers: impl ToString) -> Ensemble {
        ensemble_with(servers, self.access())
    }

    /// Why no session is opened.
    async fn refusal(&self, servers: impl ToString) -> String {
        until_told(&self.ensemble(servers), ErrorKind::Unavailable, "no TLS with").await
    }
}

#[tokio::test]
async fn a_server_must_prove_its_name_to_an_authority_that_is_trusted() {
    needs!(zookeeper::PROGRAM);
    let authority = Authority::new();
    let here = authority.certify(&["127.0.0.1"]);
    let (_server, address) = zookeeper::start_tls(&here, &authority, false).await.unwrap();
    until_answered(&Setup::trusting(&authority).ensemble(address)).await;
    let other = Setup::trusting(&Authority::new()).refusal(address).await;
    assert!(other.contains("certificate"), "{other}");
    if !rustls_native_certs::load_native_certs().certs.is_empty() {
        let system = Setup::default().refusal(address).await;
        assert!(system.contains("UnknownIssuer"), "{system}");
    }
    let named = format!("localhost:{}", address.port());
    let named = Setup::trusting(&authority).refusal(named).await;
    assert!(named.contains("not valid for name"), "{named}");
}

#[tokio::test]
async fn each_component_has_its_session_over_tls() {
    needs!(zookeeper::PROGRAM);
    let authority = Authority::new();
    let here = authority.certify(&["127.0.0.1"]);
    let (mut server, address) = zookeeper::start_tls(&here, &authority, false).await.unwrap();
    let setup = Setup::trusting(&authority);
    let ensemble = setup.ensemble(address);
    until_answered(&ensemble).await;
    use_each(address, &json!({"caCert": authority.pem})).await;
    server.kill();
    assert_eq!(ask(&ensemble).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.resume().await.unwrap();
    until_answered(&ensemble).await;
}

#[tokio::test]
async fn a_client_may_have_to_show_a_certificate_and_a_renewed_one_counts() {
    needs!(zookeeper::PROGRAM);
    let authority = Authority::new();
    let here = authority.certify(&["127.0.0.1"]);
    let (_server, address) = zookeeper::start_tls(&here, &authority, true).await.unwrap();
    let unknown = Setup::trusting(&authority);
    unknown.refusal(address).await;
    let known = unknown.clone().showing(&authority.certify(&["sidecar"]));
    until_answered(&known.ensemble(address)).await;

    // A certificate of somebody else's is in the files, until they are renewed.
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let renew = |authority: &Authority| {
        let certified = authority.certify(&["sidecar"]);
        std::fs::write(&certificate, certified.chain).unwrap();
        std::fs::write(&key, certified.key).unwrap();
    };
    renew(&Authority::new());
    let files = Setup {
        certificate: certificate.display().to_string(),
        key: key.display().to_string(),
        ..unknown
    };
    let ensemble = files.ensemble(address);
    until_told(&ensemble, ErrorKind::Unavailable, "no TLS with").await;
    std::fs::remove_file(&certificate).unwrap();
    until_told(&ensemble, ErrorKind::Unavailable, "clientCert: neither").await;
    renew(&authority);
    until_answered(&ensemble).await;
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let Some(server) = server().await else { return };
    Setup::trusting(&Authority::new()).refusal(server.address()).await;
}

#[tokio::test]
async fn a_server_that_can_have_no_certificate_is_refused_at_once() {
    let settings = json!({"caCert": Authority::new().pem});
    let error = refusal("a..b:2181", &settings).await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.message().contains("\"a..b\""), "{error}");
    for server in ["[::1]:2181", "h:1", "127.0.0.1:1"] {
        name(server).unwrap();
    }
}

#[tokio::test]
async fn components_with_other_settings_of_tls_have_another_session() {
    let cx = Context::standalone("test", ".");
    let open = async |access| {
        Ensemble::shared(["a"], Duration::from_secs(5), access, &cx)
            .await
            .unwrap()
    };
    let (one, other) = (Authority::new(), Authority::new());
    let first = open(Setup::trusting(&one).access()).await;
    assert!(Arc::ptr_eq(&first, &open(Setup::trusting(&one).access()).await));
    let sidecar = one.certify(&["sidecar"]);
    let showing = Setup::trusting(&one).showing(&sidecar).access();
    assert!(!showing.identity().contains("PRIVATE"));
    for access in [Access::default(), Setup::trusting(&other).access(), showing] {
        assert!(!Arc::ptr_eq(&first, &open(access).await));
    }
}
