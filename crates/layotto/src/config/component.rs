//! One component: its keys put together to settings, its type checked against the registry.

mod collected;
mod shape;
mod types;

use std::collections::BTreeMap;

use layotto_core::{health::Required, key_prefix::SEPARATOR};

use self::{collected::Collected, types::Candidate};
pub(super) use self::{shape::Shape, types::Types};
use super::{
    model::{ComponentConfig, ComponentRef, SecretRef},
    node::Value,
    process::text,
    reader::{Field, Object, list_of},
};

/// Shared connections, by name.
pub(super) type Connections = BTreeMap<String, Connection>;

/// One of `connections`: what components that name it inherit.
#[derive(Debug, Default)]
pub(super) struct Connection {
    type_name: Option<String>,
    settings: Collected,
    secret_refs: Vec<SecretRef>,
}

/// Reads one of `connections`.
pub(super) fn connection(field: &Field<'_>) -> Option<Connection> {
    field.object(|o| {
        let mut settings = Collected::default();
        if let Some(metadata) = o.get("metadata") {
            settings.insert_all(&metadata);
        }
        Connection {
            type_name: text(o, "type"),
            settings,
            secret_refs: secret_refs(o),
        }
    })
}

/// Reads the component called `name`.
pub(super) fn component(
    field: &Field<'_>,
    kind: &str,
    name: &str,
    shape: Shape,
    types: &Types<'_>,
    connections: &Connections,
) -> Option<ComponentConfig> {
    field.object(|o| {
        let mut settings = own_settings(o, shape);
        let shared = connection_of(o, &mut settings, connections);
        let (connection, base) = shared.unzip();
        let mut secret_refs = secret_refs(o);
        if let Some(base) = base {
            secret_refs = [inherited(base, &settings), secret_refs].concat();
            settings.inherit(&base.settings);
        }
        let component_ref = o.get("component_ref").and_then(|field| component_ref(&field));
        let required = o.get("required").and_then(|field| required(&field));
        let bigger_than = if shape.has_bounds {
            bounds(o)
        } else {
            BTreeMap::new()
        };
        let (type_field, type_name) = type_of(o, name, shape, base)?;
        let connection = connection.filter(|_| shares(base, &type_field, &type_name));
        check_key_prefix(o, &settings, shape);
        let candidate = Candidate {
            element: o,
            type_field: &type_field,
            type_name: &type_name,
            settings: &settings,
            secret_refs: &secret_refs,
            shape,
        };
        candidate.check(types);
        if shape.is_rpc {
            later_channel(o, &settings);
        }
        Some(ComponentConfig {
            kind: kind.to_owned(),
            name: name.to_owned(),
            type_name,
            settings: settings.settings(),
            secret_ref: secret_refs,
            component_ref: component_ref.unwrap_or_default(),
            required: required.unwrap_or_default(),
            bigger_than,
            connection,
            place: field.place().clone(),
        })
    })?
}

/// The secrets of a connection but for settings that the component has itself. They come first: of
/// two secrets for one setting the later counts, which is the component's own.
fn inherited(base: &Connection, own: &Collected) -> Vec<SecretRef> {
    let secrets = base.secret_refs.iter();
    secrets
        .filter(|secret| !own.has(secret.target()))
        .cloned()
        .collect()
}

fn own_settings(o: &Object<'_>, shape: Shape) -> Collected {
    let mut settings = Collected::default();
    o.ignore(shape.ignored);
    if shape.is_rpc {
        o.ignore(&["type"]);
        if let Some(config) = o.require("config", "an object") {
            settings.insert_all(&config);
        }
    }
    if let Some(metadata) = o.get("metadata") {
        metadata_into(&metadata, &mut settings, shape);
    }
    for key in shape.settings {
        if let Some(field) = o.get(key) {
            settings.insert(key, &field);
        }
    }
    settings
}

fn metadata_into(field: &Field<'_>, settings: &mut Collected, shape: Shape) {
    if !(shape.free_metadata && matches!(field.node.value, Value::List(_))) {
        return settings.insert_all(field);
    }
    let clients = field.list();
    if clients.len() > 1 {
        field.unsupported("several clients in one component are not supported yet: the first is used");
    }
    if let Some(client) = clients.first() {
        settings.insert_all(client);
    }
}

/// The connection that the metadata name, taken out of the settings.
fn connection_of<'c>(
    o: &Object<'_>,
    settings: &mut Collected,
    connections: &'c Connections,
) -> Option<(String, &'c Connection)> {
    let setting = settings.remove("useConnection")?;
    let place = setting.place.clone();
    let Some(name) = setting.text() else {
        let findings = o.field().findings();
        findings.error(place, "expected the name of one of connections");
        return None;
    };
    if name.is_empty() {
        return None;
    }
    let found = connections.get(name);
    if found.is_none() {
        let known = match connections.len() {
            0 => "there are none".to_owned(),
            _ => format!("expected {}", list_of(connections.keys())),
        };
        let message = format!("no connection is called {name:?}; {known}");
        o.field().findings().error(place, message);
    }
    found.map(|connection| (name.to_owned(), connection))
}

fn type_of<'a>(
    o: &Object<'a>,
    name: &str,
    shape: Shape,
    base: Option<&Connection>,
) -> Option<(Field<'a>, String)> {
    if shape.is_rpc {
        return Some((o.field().clone(), name.to_owned()));
    }
    let inherited = base.and_then(|base| base.type_name.clone());
    match (o.get("type"), inherited) {
        (Some(field), _) => Some((field.clone(), field.text()?.to_owned())),
        (None, Some(inherited)) => Some((o.field().clone(), inherited)),
        (None, None) => {
            o.require("type", "a component type");
            None
        }
    }
}

/// Whether the component is of its connection's type: one of another type has a client, and health,
/// of its own.
fn shares(base: Option<&Connection>, type_field: &Field<'_>, type_name: &str) -> bool {
    let shared = base.and_then(|base| base.type_name.as_deref());
    let Some(other) = shared.filter(|shared| *shared != type_name) else {
        return true;
    };
    type_field.advise(format!(
        "the connection is of type {other}: only its settings are shared"
    ));
    false
}

fn check_key_prefix(o: &Object<'_>, settings: &Collected, shape: Shape) {
    const KEY: &str = "keyPrefix";
    if !shape.runtime_keys.contains(&KEY) {
        return;
    }
    let Some(setting) = settings.get(KEY) else { return };
    if setting.text().is_some_and(|prefix| prefix.contains(SEPARATOR)) {
        let findings = o.field().findings();
        findings.error(setting.place.clone(), format!("must not contain {SEPARATOR:?}"));
    }
}

/// Channels of upstream that this build has not: only the first one is used.
fn later_channel(o: &Object<'_>, settings: &Collected) {
    let settings_json = settings.to_json();
    let channel = settings_json.get("channel").and_then(|channels| channels.get(0));
    let protocol = channel.and_then(|channel| channel.get("protocol")?.as_str());
    let Some(protocol @ ("bolt" | "boltv2" | "dubbo")) = protocol else {
        return;
    };
    let place = settings.place_of("channel[0].protocol");
    o.field().findings().unsupported(
        place.unwrap_or_else(|| o.field().place().clone()),
        format!("channel {protocol} is not supported yet: the component will be DOWN"),
    );
}

fn required(field: &Field<'_>) -> Option<Required> {
    field.choice(&[
        ("start", Required::Start),
        ("always", Required::Always),
        ("no", Required::No),
    ])
}

fn bounds(o: &Object<'_>) -> BTreeMap<String, i64> {
    let bounds = o.get("biggerThan").map(|field| field.map()).unwrap_or_default();
    bounds
        .into_iter()
        .filter_map(|(key, field)| Some((key.to_owned(), field.number("a whole number")?)))
        .collect()
}

fn secret_refs(o: &Object<'_>) -> Vec<SecretRef> {
    let refs = o.get("secret_ref").map(|field| field.list()).unwrap_or_default();
    refs.iter()
        .filter_map(|field| field.object(secret_ref)?)
        .collect()
}

fn secret_ref(o: &Object<'_>) -> Option<SecretRef> {
    let store_name = o.require("store_name", "the name of a secret store");
    let key = o.require("key", "the name of a secret");
    let sub_key = text(o, "sub_key");
    let inject_as = text(o, "inject_as");
    Some(SecretRef {
        store_name: store_name?.text()?.to_owned(),
        key: key?.text()?.to_owned(),
        sub_key: sub_key.unwrap_or_default(),
        inject_as: inject_as.unwrap_or_default(),
    })
}

fn component_ref(field: &Field<'_>) -> Option<ComponentRef> {
    field.object(|o| ComponentRef {
        secret_store: text(o, "secret_store"),
        config_store: text(o, "config_store"),
    })
}
