//! TLS, as a server with a certificate of its own sees it.

use std::{fs, os::unix::fs::PermissionsExt};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::*;

/// A certificate and its key, in PEM.
struct Identity {
    certificate: String,
    key: String,
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let file = folder.path().join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

/// Whether the connection is encrypted.
async fn is_encrypted(connection_string: &str) -> Result<bool> {
    let pool = pool(connection_string, 1);
    let mut lease = pool.lease().await?;
    let asked = sqlx::query_scalar("select ssl from pg_stat_ssl where pid = pg_backend_pid()");
    let answer = asked.fetch_one(lease.connection()).await;
    lease.settle(answer)
}

#[tokio::test]
async fn the_server_is_verified_and_verifies_the_client() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    let (server_side, client) = (authority.issue("localhost"), authority.issue("certified"));
    let certificate = format!(
        "ssl_cert_file={}",
        write(&folder, "server.pem", &server_side.certificate)
    );
    let key = format!("ssl_key_file={}", write(&folder, "server.key", &server_side.key));
    let root = write(&folder, "root.pem", &authority.certificate);
    let authorities = format!("ssl_ca_file={root}");
    let arguments = ["-c", "ssl=on", "-c", &certificate, "-c", &key, "-c", &authorities];
    let Some(server) = server(&arguments).await else {
        return;
    };
    postgres::psql(&server, "create role certified login").unwrap();
    postgres::psql(&server, "create role plain login").unwrap();
    let rules = "hostssl all certified 127.0.0.1/32 cert\nhostnossl all plain 127.0.0.1/32 trust\n\
                 host all postgres 127.0.0.1/32 trust\n";
    fs::write(server.dir().join("data/pg_hba.conf"), rules).unwrap();
    postgres::psql(&server, "select pg_reload_conf()").unwrap();

    let port = server.address().port();
    let to = |host: &str, rest: &str| format!("host={host} port={port} dbname=postgres user=postgres {rest}");
    let ask = async |host: &str, rest: &str| is_encrypted(&to(host, rest)).await;
    assert!(!ask("localhost", "sslmode=disable").await.unwrap());
    for rest in ["", "sslmode=prefer", "sslmode=require"] {
        assert!(ask("127.0.0.1", rest).await.unwrap(), "{rest}");
    }
    let verified = format!("sslmode=verify-full sslrootcert={root}");
    assert!(ask("localhost", &verified).await.unwrap());
    let inline = format!("sslmode=verify-full sslrootcert='{}'", authority.certificate);
    assert!(ask("localhost", &inline).await.unwrap());
    let required = format!("sslmode=require sslrootcert={root}");
    assert!(ask("localhost", &required).await.unwrap());

    let other = write(&folder, "other.pem", &Authority::new("another").certificate);
    for (host, rest, reason) in [
        ("127.0.0.1", verified.clone(), "not valid for name"),
        ("127.0.0.1", required, "not valid for name"),
        (
            "localhost",
            format!("sslmode=verify-full sslrootcert={other}"),
            "UnknownIssuer",
        ),
        ("localhost", "sslmode=verify-full".to_owned(), "UnknownIssuer"),
    ] {
        let error = ask(host, &rest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(reason), "{rest}: {error}");
    }

    let certificate = write(&folder, "client.pem", &client.certificate);
    let key = write(&folder, "client.key", &client.key);
    let certified = format!("{verified} user=certified");
    let error = ask("localhost", &certified).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    let with_key = format!("{certified} sslcert={certificate} sslkey={key}");
    assert!(ask("localhost", &with_key).await.unwrap());
    let inline = format!(
        "{certified} sslcert='{}' sslkey='{}'",
        client.certificate, client.key
    );
    assert!(ask("localhost", &inline).await.unwrap());

    // The server takes this login on one kind of connection only.
    assert!(!ask("127.0.0.1", "user=plain sslmode=prefer").await.unwrap());
    let certified = format!("user=certified sslmode=allow sslcert={certificate} sslkey={key}");
    assert!(ask("127.0.0.1", &certified).await.unwrap());
    assert!(ask("127.0.0.1", "user=plain sslmode=require").await.is_err());
}

#[tokio::test]
async fn a_server_without_tls_is_used_only_where_tls_is_not_asked_for() {
    let Some(server) = server(&[]).await else { return };
    let url = |mode: &str| format!("{}?sslmode={mode}", postgres::url(&server));
    assert!(!is_encrypted(&url("prefer")).await.unwrap());
    for mode in ["require", "verify-full"] {
        let error = is_encrypted(&url(mode)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("does not support TLS"), "{error}");
    }
}
