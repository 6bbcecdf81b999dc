//! Which of a listener's contexts serves a client.

use std::sync::Arc;

use rustls::{ServerConfig, pki_types::CertificateDer, server::ClientHello};

/// A certificate with all that goes with it.
#[derive(Debug)]
pub(super) struct Context {
    /// Names that it serves, in lower case; a first label may be `*`.
    pub(super) names: Vec<String>,
    pub(super) config: Arc<ServerConfig>,
    /// Whether the certificate of a client is verified.
    pub(super) verifies: bool,
}

/// The contexts of a listener, the default first; at least one.
#[derive(Debug)]
pub(super) struct Choice(pub(super) Vec<Context>);

impl Choice {
    /// The context that has the client's name: as it is, else under a wildcard, else any. Among
    /// equals the first that speaks one of the client's protocols, else the first.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> (Arc<ServerConfig>, bool) {
        let wanted: Option<Vec<&[u8]>> = hello.alpn().map(Iterator::collect);
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let context = self.find(name.as_deref(), wanted.as_deref());
        (context.config.clone(), context.verifies)
    }

    fn find(&self, name: Option<&str>, wanted: Option<&[&[u8]]>) -> &Context {
        let named = |matches: fn(&str, &str) -> bool| {
            let has = move |context: &&Context| {
                name.is_some_and(|name| context.names.iter().any(|own| matches(own, name)))
            };
            speaker(self.0.iter().filter(has), wanted)
        };
        named(|own, name| own == name)
            .or_else(|| named(covers))
            .or_else(|| speaker(self.0.iter(), wanted))
            .expect("invariant: a choice has a context")
    }
}

/// The first that speaks one of the `wanted` protocols, else the first.
fn speaker<'a>(
    contexts: impl Iterator<Item = &'a Context> + Clone,
    wanted: Option<&[&[u8]]>,
) -> Option<&'a Context> {
    let speaks = |context: &&Context| {
        let own = &context.config.alpn_protocols;
        wanted.is_some_and(|wanted| own.iter().any(|own| wanted.contains(&own.as_slice())))
    };
    contexts.clone().find(speaks).or_else(|| contexts.clone().next())
}

/// Whether `*.example.org` covers a name: the wildcard stands for one label (RFC 9525, section 6.3).
fn covers(pattern: &str, name: &str) -> bool {
    let parent = |name: &str| name.split_once('.').map(|(_, parent)| parent.to_owned());
    pattern
        .strip_prefix("*.")
        .is_some_and(|suffix| parent(name).is_some_and(|parent| parent == suffix))
}

/// The names that a certificate is for, and `own`.
pub(super) fn names(chain: &[CertificateDer<'_>], own: &str) -> Vec<String> {
    let own = (!own.is_empty()).then(|| own.to_ascii_lowercase());
    let certificate = chain.first().map(webpki::EndEntityCert::try_from);
    match certificate {
        Some(Ok(certificate)) => own
            .into_iter()
            .chain(certificate.valid_dns_names().map(str::to_ascii_lowercase))
            .collect(),
        _ => own.into_iter().collect(),
    }
}
