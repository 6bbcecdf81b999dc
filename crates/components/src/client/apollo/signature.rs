//! Requests signed with an access key.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use layotto_core::Secret;
use reqwest::Url;
use ring::hmac;

/// The header fields of a request that is sent now.
pub(super) fn headers(app_id: &str, secret: &Secret, url: &Url) -> [(&'static str, String); 2] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    signed_at(now.as_millis(), app_id, secret, url)
}

fn signed_at(millis: u128, app_id: &str, secret: &Secret, url: &Url) -> [(&'static str, String); 2] {
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let text = format!("{millis}\n{}{query}", url.path());
    // Apollo knows no other digest.
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose().as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    [
        ("Authorization", format!("Apollo {app_id}:{signature}")),
        ("Timestamp", millis.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_path_and_query_are_signed() {
        // An example of Apollo's manual for clients.
        let secret = Secret::new("df23df3f59884980844ff3dada30fa97".to_owned());
        let url =
            Url::parse("http://localhost:8080/configs/100004458/default/application?ip=10.0.0.1").unwrap();
        let [(_, authorization), (_, time)] = signed_at(1_576_478_257_344, "100004458", &secret, &url);
        assert_eq!(authorization, "Apollo 100004458:EoKyziXvKqzHgwx+ijDJwgVTDgE=");
        assert_eq!(time, "1576478257344");
    }
}
