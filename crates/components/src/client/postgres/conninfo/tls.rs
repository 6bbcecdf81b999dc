//! TLS as the keys `sslmode`, `sslrootcert`, `sslcert` and `sslkey` ask for it.

use std::{fs, net::IpAddr, path::PathBuf};

use layotto_core::{Context, Result};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{Pairs, is_socket, wrong};

/// The options with TLS as asked for, and the mode to try where the server does not take the first.
pub(super) fn apply(
    options: PgConnectOptions,
    pairs: &mut Pairs,
    cx: &Context,
) -> Result<(PgConnectOptions, Option<PgSslMode>)> {
    let asked = pairs.remove("sslmode");
    let authority = pairs
        .remove("sslrootcert")
        .filter(|authority| authority != "system");
    let (certificate, key) = (pairs.remove("sslcert"), pairs.remove("sslkey"));
    if certificate.is_some() != key.is_some() {
        return Err(wrong("sslcert and sslkey are given together or not at all"));
    }
    if is_socket(&options) {
        return Ok((options.ssl_mode(PgSslMode::Disable), None));
    }
    let verifies = authority.is_some();
    let (mode, second) = match asked.as_deref() {
        Some("disable") => (PgSslMode::Disable, None),
        Some("allow") => (PgSslMode::Disable, Some(PgSslMode::Require)),
        Some("prefer") | None => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
        // With an authority it promises a check of it, as it does with libpq.
        Some("require") if !verifies => (PgSslMode::Require, None),
        Some("require" | "verify-full") => (PgSslMode::VerifyFull, None),
        // The library trusts the system's authorities besides the given one. Without a look at the
        // name, any server with any valid certificate would do.
        Some("verify-ca") => return Err(wrong("sslmode verify-ca is not supported, use verify-full")),
        Some(_) => {
            return Err(wrong(
                "sslmode is none of disable, allow, prefer, require and verify-full",
            ));
        }
    };
    if !matches!(mode, PgSslMode::VerifyFull) && asked.as_deref() != Some("disable") && !is_local(&options) {
        tracing::warn!(
            component = cx.name,
            sslmode = asked.as_deref().unwrap_or("prefer"),
            "the server's certificate is not verified: use sslmode=verify-full"
        );
    }
    let mut options = options.ssl_mode(mode);
    if let Some(authority) = authority {
        options = match source(&authority, cx, "sslrootcert")? {
            Source::Text(pem) => options.ssl_root_cert_from_pem(pem.into_bytes()),
            Source::File(path) => options.ssl_root_cert(path),
        };
    }
    if let (Some(certificate), Some(key)) = (certificate, key) {
        options = match source(&certificate, cx, "sslcert")? {
            Source::Text(pem) => options.ssl_client_cert_from_pem(pem),
            Source::File(path) => options.ssl_client_cert(path),
        };
        options = match source(&key, cx, "sslkey")? {
            Source::Text(pem) => options.ssl_client_key_from_pem(pem),
            Source::File(path) => options.ssl_client_key(path),
        };
    }
    Ok((options, second))
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// PEM itself, or a file, which is read anew for each connection.
enum Source {
    Text(String),
    File(PathBuf),
}

fn source(value: &str, cx: &Context, key: &str) -> Result<Source> {
    if value.trim_start().starts_with("-----BEGIN") {
        return Ok(Source::Text(value.to_owned()));
    }
    let path = cx.resolve(value);
    fs::metadata(&path)
        .map_err(|error| wrong(&format!("{key}: cannot read {}", path.display())).with_source(error))?;
    Ok(Source::File(path))
}
