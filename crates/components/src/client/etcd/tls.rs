//! TLS towards the nodes: verified, unless the settings say otherwise.

use layotto_core::{Context, Result};

use super::settings::Settings;
use crate::client::tls::{Given, Keys, Tls};

const KEYS: Keys = Keys {
    authorities: "tlsCa",
    certificate: "tlsCert",
    key: "tlsCertKey",
};

/// TLS where the settings ask for it: `secure`, or by any of their own.
pub(super) fn tls(settings: &Settings, secure: bool, cx: &Context) -> Result<Option<Tls>> {
    let given = Given {
        authorities: &settings.tls_ca,
        certificate: &settings.tls_cert,
        key: &settings.tls_cert_key,
        skip_verify: settings.tls_skip_verify,
    };
    let texts = [given.authorities, given.certificate, given.key.expose()];
    if !secure && !given.skip_verify && texts.iter().all(|text| text.is_empty()) {
        return Ok(None);
    }
    if given.skip_verify {
        tracing::warn!(
            component = cx.name,
            "tlsSkipVerify: any certificate is taken, so nothing protects this connection"
        );
    }
    Tls::new(&KEYS, &given, cx).map(Some)
}
