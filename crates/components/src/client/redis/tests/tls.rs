//! TLS: who is believed, and who is let in.

use std::path::Path;

use layotto_testkit::server::Server;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::*;

/// An authority, and a folder with its certificate and those that it made.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    /// Makes a certificate for `name`, as `NAME.pem` and `NAME.key`.
    fn certify(&self, name: &str) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    /// A server whose certificate is for `name`, and that asks its clients for theirs if `mutual`.
    async fn serve(&self, name: &str, mutual: &str) -> Server {
        self.certify(name);
        let (certificate, key) = (
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}.key")),
        );
        let arguments = [
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &self.path("ca.pem")],
            ["--tls-auth-clients", mutual],
        ];
        servers::start_tls(&arguments.concat()).await.unwrap()
    }
}

async fn ask(server: &Server, settings: &[(&str, &str)]) -> Result<Value> {
    let settings: Vec<_> = settings.iter().copied().chain([("enableTLS", "true")]).collect();
    let client = client(&server.address().to_string(), &settings);
    client.say(&["SET", "k", "v"]).await
}

fn refused(result: Result<Value>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("tls"), "{error}");
}

// deviation: D086
#[tokio::test]
async fn a_server_must_prove_its_name_to_an_authority_that_is_trusted() {
    needs!(servers::PROGRAM);
    let authority = Authority::new();
    let server = authority.serve("127.0.0.1", "no").await;
    let file = authority.path("ca.pem");
    let text = std::fs::read_to_string(&file).unwrap();
    ask(&server, &[("caCert", &file)]).await.unwrap();
    ask(&server, &[("caCert", &text)]).await.unwrap();
    refused(ask(&server, &[("caCert", &file), ("tlsServerName", "redis.example")]).await);
    refused(ask(&server, &[("caCert", &Authority::new().path("ca.pem"))]).await);
    ask(&server, &[("tlsSkipVerify", "true")]).await.unwrap();
}

#[tokio::test]
async fn the_name_in_the_certificate_may_be_said() {
    needs!(servers::PROGRAM);
    let authority = Authority::new();
    let server = authority.serve("redis.example", "no").await;
    let file = authority.path("ca.pem");
    refused(ask(&server, &[("caCert", &file)]).await);
    ask(&server, &[("caCert", &file), ("tlsServerName", "redis.example")])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_may_have_to_show_a_certificate_and_a_renewed_one_counts() {
    needs!(servers::PROGRAM);
    let authority = Authority::new();
    let server = authority.serve("127.0.0.1", "yes").await;
    authority.certify("client");
    let (ca, certificate, key) = (
        authority.path("ca.pem"),
        authority.path("client.pem"),
        authority.path("client.key"),
    );
    let trusted = [
        ("caCert", ca.as_str()),
        ("clientCert", &certificate),
        ("clientKey", &key),
    ];
    ask(&server, &trusted).await.unwrap();
    let error = ask(&server, &trusted[..1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // A certificate of somebody else's is in the files, until they are renewed.
    let other = Authority::new();
    other.certify("client");
    let renew = |from: &Authority| {
        for file in ["client.pem", "client.key"] {
            std::fs::copy(
                from.path(file),
                Path::new(&authority.path("")).join(format!("used.{file}")),
            )
            .unwrap();
        }
    };
    renew(&other);
    let (certificate, key) = (
        authority.path("used.client.pem"),
        authority.path("used.client.key"),
    );
    let settings = [
        ("enableTLS", "true"),
        ("caCert", ca.as_str()),
        ("clientCert", &certificate),
        ("clientKey", &key),
    ];
    let client = client(&server.address().to_string(), &settings);
    client.say(&["SET", "k", "v"]).await.unwrap_err();
    renew(&authority);
    until_answered(&client).await;
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    // It waits for the end of what it takes for a command.
    let error = ask(&server, &[("tlsSkipVerify", "true"), ("dialTimeout", "500ms")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let authority = Authority::new();
    let server = authority.serve("127.0.0.1", "no").await;
    let plain = client(&server.address().to_string(), &[("dialTimeout", "500ms")]);
    let error = plain.ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
