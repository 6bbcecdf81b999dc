//! Changing the settings of a component while it runs.

use std::sync::Arc;

use layotto_core::{Component, Error, ErrorKind, Metadata, Result, Settings};
use tokio::sync::Mutex;

use crate::{Runtime, status::REASON};

/// The section prefix of custom kinds, as in `custom_component.helloworld`.
const CUSTOM: &str = "custom_component.";

/// Gives component `name` of section `kind` a complete new set of dynamic settings. Calls for one
/// component happen one after another.
pub async fn apply(runtime: &Runtime, kind: &str, name: &str, metadata: Metadata) -> Result<()> {
    for (field, missing) in [
        ("kind", kind.is_empty()),
        ("name", name.is_empty()),
        ("metadata", metadata.is_empty()),
    ] {
        if missing {
            return Err(Error::invalid(format!("field {field} is not configured")));
        }
    }
    let found = find(runtime, kind, name).ok_or_else(|| not_found(kind, name))?;
    let component = found.component?;
    if !component.is_dynamic() {
        return Err(not_found(kind, name));
    }
    let settings = Settings::verbatim(
        metadata
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect(),
    );
    let _turn = found.applying.lock().await;
    component
        .apply(settings)
        .await
        .map_err(|error| refused(kind, name, error))
}

fn not_found(kind: &str, name: &str) -> Error {
    Error::invalid(format!("component not found. kind: {kind} , name: {name}"))
        .with_detail(REASON, "COMPONENT_NOT_FOUND")
}

/// What the component does not take is the caller's mistake, whatever the component calls it,
/// unless trying again may help.
fn refused(kind: &str, name: &str, error: Error) -> Error {
    let code = match error.kind() {
        again @ (ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Cancelled) => again,
        _ => ErrorKind::InvalidArgument,
    };
    let refusal = Error::new(code, error.message())
        .with_detail("kind", kind)
        .with_detail("component", name);
    refusal.with_source(error)
}

struct Found<'a> {
    component: Result<Arc<dyn Component>>,
    applying: &'a Mutex<()>,
}

fn find<'a>(runtime: &'a Runtime, kind: &str, name: &str) -> Option<Found<'a>> {
    let components = &runtime.components;
    macro_rules! of {
        ($store:expr) => {{
            let slot = $store.get(name)?;
            Found {
                component: slot.get().map(|it| it as Arc<dyn Component>),
                applying: &slot.applying,
            }
        }};
    }
    Some(match kind {
        "hellos" => of!(components.hello),
        "config_store" => of!(components.configuration),
        "rpcs" => of!(components.rpc),
        "pub_subs" => of!(components.pubsub),
        "state" => of!(components.state),
        "file" => of!(components.file),
        "lock" => of!(components.lock),
        "sequencer" => of!(components.sequencer),
        "secret_store" => of!(components.secret),
        "bindings" => of!(components.binding),
        custom => of!(components.custom.get(custom.strip_prefix(CUSTOM)?)?),
    })
}

#[cfg(test)]
mod tests;
