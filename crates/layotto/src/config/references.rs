//! Names by which components refer to one another: each must exist.

use super::{
    model::{ComponentConfig, Components, Listener, RuntimeConfig, Terminal},
    reader::{child_path, list_of},
    report::{Findings, Place},
};
use crate::facts;

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

/// Reports rpc components that call a listener which is not there.
pub(super) fn check_channels(listeners: &[Listener], findings: &Findings) {
    for listener in listeners {
        let Terminal::Grpc(grpc) = &listener.terminal else {
            continue;
        };
        for rpc in grpc.runtime.rpcs.values() {
            let Some(name) = facts::channel_listener(&rpc.settings) else {
                continue;
            };
            if !listeners.iter().any(|listener| listener.name == name) {
                let place = Place {
                    path: child_path(&rpc.place.path, "config.channel[0].listener"),
                    ..rpc.place.clone()
                };
                let known = list_of(listeners.iter().map(|listener| &listener.name));
                findings.error(
                    place,
                    format!("no listener is called {name:?}; expected host:port, {known}"),
                );
            }
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
