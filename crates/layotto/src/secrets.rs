//! What components get from other components: secrets by `secret_ref`, live stores by
//! `component_ref`.

use std::sync::{Arc, OnceLock};

use layotto_api::Store;
use layotto_core::{
    Error, ErrorKind, Metadata, Refs, Result, Settings, configuration::ConfigStore, secret::SecretStore,
};

use crate::config::{ComponentRef, SecretRef};

/// The stores that other components may refer to; filled in one after the other at start.
#[derive(Default)]
pub struct Secrets {
    /// The secret stores.
    pub secret_stores: OnceLock<Store<dyn SecretStore>>,
    /// The configuration stores.
    pub config_stores: OnceLock<Store<dyn ConfigStore>>,
}

impl Secrets {
    /// `settings` with the secrets that `refs` name; all of them or an error.
    pub async fn inject(&self, mut settings: Settings, refs: &[SecretRef]) -> Result<Settings> {
        for secret_ref in refs {
            let secret = self.secret_store(&secret_ref.store_name)?;
            let mut entries = secret.get(&secret_ref.key, &Metadata::new()).await?;
            match entries.remove(&secret_ref.sub_key) {
                Some(value) => settings.set(secret_ref.target(), value),
                // As upstream, which leaves the setting as it is.
                None => tracing::warn!(
                    store = secret_ref.store_name,
                    key = secret_ref.key,
                    sub_key = secret_ref.sub_key,
                    "the secret has no such sub_key, nothing injected"
                ),
            }
        }
        Ok(settings)
    }

    /// The live stores that `refs` name.
    pub fn refs(&self, refs: &ComponentRef) -> Result<Refs> {
        let mut live = Refs::default();
        if let Some(name) = &refs.secret_store {
            live.secret_store = Some(self.secret_store(name)?);
        }
        if let Some(name) = &refs.config_store {
            let slot = self.config_stores.get().and_then(|stores| stores.get(name));
            live.config_store = Some(slot.ok_or_else(|| unknown("configStore", name))?.get()?);
        }
        Ok(live)
    }

    fn secret_store(&self, name: &str) -> Result<Arc<dyn SecretStore>> {
        let slot = self.secret_stores.get().and_then(|stores| stores.get(name));
        slot.ok_or_else(|| unknown("secretStore", name))?.get()
    }
}

fn unknown(kind: &str, name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("fail to get {kind}:{name}"))
}
