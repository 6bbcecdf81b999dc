//! TLS to the servers: what they must prove, and what is shown to them.

use std::sync::Arc;

use layotto_core::{Context, Result};
use rustls::{ClientConfig, pki_types::ServerName};

use super::settings::Given;
use crate::client::tls::{self, server_name};

/// The settings of TLS, and the name that certificates must have where it is not the host's.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    settings: tls::Tls,
    name: Option<ServerName<'static>>,
}

impl Tls {
    pub(super) fn new(given: &Given<'_>, cx: &Context) -> Result<Self> {
        let settings = tls::Given {
            authorities: given.ca_cert,
            certificate: given.client_cert,
            key: given.client_key,
            skip_verify: given.tls_skip_verify,
        };
        let name = match given.tls_server_name {
            "" => None,
            name => Some(server_name(name)?),
        };
        Ok(Self {
            settings: tls::Tls::new(&tls::KEYS, &settings, cx)?,
            name,
        })
    }

    /// What a connection to `host` needs.
    pub(super) fn for_host(&self, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>)> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        Ok((Arc::new(self.settings.config()?), name))
    }

    /// The PEM texts among the settings, which are not printed.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.settings.texts()
    }
}
