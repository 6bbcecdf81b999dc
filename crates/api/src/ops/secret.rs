//! Secrets.

use std::collections::HashMap;

use layotto_core::{Metadata, Result, secret::SecretStore};

use crate::{
    Slot,
    runtime::{Runtime, component_error, look_up},
};

/// The entries of secret `key`.
pub async fn get(
    runtime: &Runtime,
    store: &str,
    key: &str,
    metadata: &Metadata,
) -> Result<HashMap<String, String>> {
    let slot = find(runtime, store)?;
    let secret = async { slot.get()?.get(key, metadata).await }.await;
    secret.map_err(|error| {
        let text =
            format!("error when get secret : secret name => {key},store name =>{store},error => {error}");
        component_error("secret_store", store, text, error)
    })
}

/// Every secret that the store may read, by name.
pub async fn bulk_get(
    runtime: &Runtime,
    store: &str,
    metadata: &Metadata,
) -> Result<HashMap<String, HashMap<String, String>>> {
    let slot = find(runtime, store)?;
    let secrets = async { slot.get()?.bulk_get(metadata).await }.await;
    secrets.map_err(|error| {
        let text = format!("error when bulk get secret {store}: {error}");
        component_error("secret_store", store, text, error)
    })
}

fn find<'a>(runtime: &'a Runtime, store: &str) -> Result<&'a Slot<dyn SecretStore>> {
    let none = || "error when get secret but not find configured".to_owned();
    let unknown = || format!("error when get secret but not find : {store}");
    look_up(&runtime.components.secret, store, none, unknown).map(|slot| &**slot)
}
