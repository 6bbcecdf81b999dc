//! Names by which components refer to one another: each must exist.

use super::{
    model::{ComponentConfig, Components, RuntimeConfig},
    reader::{child_path, list_of},
    report::{Findings, Place},
};

/// Reports secret and configuration stores that are named and not there.
pub(super) fn check(runtime: &RuntimeConfig, findings: &Findings) {
    for component in runtime.components() {
        for secret in &component.secret_ref {
            expect(
                &runtime.secret_store,
                &secret.store_name,
                "secret_ref",
                component,
                findings,
            );
        }
        let refs = &component.component_ref;
        if let Some(name) = &refs.secret_store {
            expect(
                &runtime.secret_store,
                name,
                "component_ref.secret_store",
                component,
                findings,
            );
        }
        if let Some(name) = &refs.config_store {
            expect(
                &runtime.config_store,
                name,
                "component_ref.config_store",
                component,
                findings,
            );
        }
    }
}

fn expect(stores: &Components, name: &str, path: &str, component: &ComponentConfig, findings: &Findings) {
    if stores.contains_key(name) {
        return;
    }
    let kind = if path.ends_with("config_store") {
        "configuration store"
    } else {
        "secret store"
    };
    let known = match stores.len() {
        0 => "there are none".to_owned(),
        _ => format!("expected {}", list_of(stores.keys())),
    };
    let place = Place {
        path: child_path(&component.place.path, path),
        ..component.place.clone()
    };
    findings.error(place, format!("no {kind} is called {name:?}; {known}"));
}
