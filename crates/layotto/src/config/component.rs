//! One component: its keys put together to settings, its type checked against the registry.

use std::collections::{BTreeMap, HashMap};

use layotto_core::{Settings, health::Required, key_prefix::SEPARATOR, registry::AnyKind};
use serde_json::{Map, Value as Json};

use super::{
    known,
    model::{ComponentConfig, ComponentRef, SecretRef},
    node::Value,
    process::text,
    reader::{Field, Object, list_of, unknown_key},
    report::Place,
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

/// Settings, and where in the file each came from.
#[derive(Debug, Clone, Default)]
struct Collected {
    values: Map<String, Json>,
    places: HashMap<String, Place>,
}

impl Collected {
    fn insert(&mut self, key: &str, field: &Field<'_>) {
        self.values.insert(key.to_owned(), field.node.to_json());
        self.places.insert(key.to_owned(), field.place().clone());
    }

    fn insert_all(&mut self, field: &Field<'_>) {
        for (key, value) in field.map() {
            self.insert(key, &value);
        }
    }

    /// Fills in what `base` has and `self` has not, or has blank.
    fn inherit(&mut self, base: &Self) {
        for (key, value) in &base.values {
            let own = self.values.get(key);
            if own.is_none_or(|own| own.is_null() || own.as_str() == Some("")) {
                self.values.insert(key.clone(), value.clone());
                if let Some(place) = base.places.get(key) {
                    self.places.insert(key.clone(), place.clone());
                }
            }
        }
    }
}

/// What the elements of a section look like besides `type` and `metadata`.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Keys of the element that are settings of the component.
    settings: &'static [&'static str],
    /// Keys of the element that upstream reads and overwrites.
    ignored: &'static [&'static str],
    /// The element is `{"config": {…}}` and its name is its type.
    is_rpc: bool,
    /// Metadata may be a list of objects.
    free_metadata: bool,
    /// The element may have `biggerThan`.
    has_bounds: bool,
    /// Metadata that the runtime takes, whatever the component's type.
    runtime_keys: &'static [&'static str],
}

impl Shape {
    /// The shape of `section`; custom kinds look like any other.
    pub(super) fn of(section: &str) -> Self {
        let plain = Self {
            settings: &[],
            ignored: &["version"],
            is_rpc: false,
            free_metadata: false,
            has_bounds: false,
            runtime_keys: &[],
        };
        match section {
            "hellos" => Self {
                settings: &["hello"],
                ..plain
            },
            "config_store" => Self {
                settings: &["address", "timeout"],
                ignored: &["version", "store_name", "app_id"],
                ..plain
            },
            "rpcs" => Self {
                is_rpc: true,
                ..plain
            },
            "file" | "oss" => Self {
                free_metadata: true,
                ..plain
            },
            "state" | "lock" => Self {
                runtime_keys: &["keyPrefix"],
                ..plain
            },
            "sequencer" => Self {
                has_bounds: true,
                runtime_keys: &["keyPrefix"],
                ..plain
            },
            // Upstream's runtime sets it, so every file may have it.
            "pub_subs" => Self {
                runtime_keys: &["consumerID"],
                ..plain
            },
            _ => plain,
        }
    }
}

/// The component types of one section.
pub(super) struct Types<'r> {
    kind: Option<&'r dyn AnyKind>,
    later: Vec<&'static str>,
    /// The beginning of upstream's sentence for a type that it does not know, and its end.
    refusal: (&'static str, &'static str),
}

impl<'r> Types<'r> {
    /// The types of a section of `grpc_config`; `kind` is `None` for a section without components yet.
    pub(super) fn of_section(section: &str, kind: Option<&'r dyn AnyKind>) -> Self {
        let mut later = kind.map(AnyKind::planned).unwrap_or_default();
        if kind.is_none() {
            let types = known::LATER_SECTIONS.iter().find(|(name, _)| *name == section);
            later.extend(types.into_iter().flat_map(|(_, types)| *types));
        }
        let refusal = match section {
            "secret_store" => ("couldn't find secret store ", ""),
            "pub_subs" | "oss" | "cryption" | "email" | "phone" | "sms" | "rpcs" => {
                ("service component ", " is not registered")
            }
            _ => ("service component ", " is not regsitered"),
        };
        Self {
            kind,
            later,
            refusal,
        }
    }

    /// The types of a custom kind.
    pub(super) fn of_custom(kind: &'r dyn AnyKind) -> Self {
        Self {
            kind: Some(kind),
            later: kind.planned(),
            refusal: ("custom component ", " is not regsitered"),
        }
    }

    fn listed(&self) -> Vec<&'static str> {
        let listed = self.kind.map(AnyKind::listed).unwrap_or_default();
        listed.into_iter().map(|listed| listed.name).collect()
    }

    fn refuse(&self, field: &Field<'_>, type_name: &str) {
        let (before, after) = self.refusal;
        let known = match (self.listed().as_slice(), self.later.as_slice()) {
            ([], []) => "this section has no types yet".to_owned(),
            ([], later) => format!("known types, none supported yet: {}", later.join(", ")),
            (listed, []) => format!("known types: {}", listed.join(", ")),
            (listed, later) => format!(
                "known types: {} (not supported yet: {})",
                listed.join(", "),
                later.join(", ")
            ),
        };
        field.error(format!("{before}{type_name}{after}; {known}"));
    }
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
            settings.inherit(&base.settings);
            secret_refs.extend(base.secret_refs.iter().cloned());
        }
        let component_ref = o.get("component_ref").and_then(|field| component_ref(&field));
        let required = o.get("required").and_then(|field| required(&field));
        let bigger_than = if shape.has_bounds { bounds(o) } else { BTreeMap::new() };
        let (type_field, type_name) = type_of(o, name, shape, base)?;
        check_key_prefix(o, &settings, shape);
        check_type(&type_field, &type_name, types, &settings, &secret_refs, shape, o);
        Some(ComponentConfig {
            kind: kind.to_owned(),
            name: name.to_owned(),
            type_name,
            settings: Settings::new(settings.values),
            secret_ref: secret_refs,
            component_ref: component_ref.unwrap_or_default(),
            required: required.unwrap_or_default(),
            bigger_than,
            connection,
            place: field.place().clone(),
        })
    })?
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
    const KEY: &str = "useConnection";
    let value = settings.values.remove(KEY)?;
    let place = settings.places.remove(KEY);
    let place = place.unwrap_or_else(|| o.field().place().clone());
    let Some(name) = value.as_str() else {
        o.field()
            .findings()
            .error(place, "expected the name of one of connections");
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

fn check_key_prefix(o: &Object<'_>, settings: &Collected, shape: Shape) {
    const KEY: &str = "keyPrefix";
    if !shape.runtime_keys.contains(&KEY) {
        return;
    }
    let prefix = settings.values.get(KEY).and_then(Json::as_str);
    if prefix.is_some_and(|prefix| prefix.contains(SEPARATOR)) {
        let place = settings.places.get(KEY).unwrap_or_else(|| o.field().place());
        o.field()
            .findings()
            .error(place.clone(), format!("must not contain {SEPARATOR:?}"));
    }
}

fn check_type(
    type_field: &Field<'_>,
    type_name: &str,
    types: &Types<'_>,
    settings: &Collected,
    secret_refs: &[SecretRef],
    shape: Shape,
    o: &Object<'_>,
) {
    let probe = probe(settings, secret_refs, shape);
    match types.kind.and_then(|kind| kind.check(type_name, &probe)) {
        Some(Ok(unknown)) => {
            for path in unknown {
                let place = place_in(o, settings, &path);
                let key = path.rsplit('.').next().unwrap_or(&path);
                o.field()
                    .findings()
                    .unknown(place, unknown_key(key, known_settings(types, type_name).iter().map(String::as_str)));
            }
        }
        Some(Err(error)) => {
            let top = error.path.split(['.', '[']).next().unwrap_or_default();
            // What a secret fills in cannot be judged before the secret is read.
            if secret_refs.iter().any(|secret| secret.target() == top) {
                return;
            }
            let place = place_in(o, settings, &error.path);
            o.field().findings().error(place, error.message);
        }
        None if types.later.contains(&type_name) => type_field.unsupported(format!(
            "type {type_name} is not supported yet: the component will be DOWN"
        )),
        None => types.refuse(type_field, type_name),
    }
}

/// The settings to check: without what the runtime takes, with a stand-in for each secret. The
/// stand-in reads as a text, a number, a boolean and a duration.
fn probe(settings: &Collected, secret_refs: &[SecretRef], shape: Shape) -> Settings {
    const STAND_IN: &str = "0";
    let mut values = settings.values.clone();
    for key in shape.runtime_keys {
        values.remove(*key);
    }
    for secret in secret_refs {
        if !shape.runtime_keys.contains(&secret.target()) {
            values.insert(secret.target().to_owned(), STAND_IN.into());
        }
    }
    Settings::new(values)
}

fn known_settings(types: &Types<'_>, type_name: &str) -> Vec<String> {
    let listed = types.kind.map(AnyKind::listed).unwrap_or_default();
    let schema = listed.into_iter().find(|listed| listed.name == type_name);
    let properties = schema.and_then(|listed| listed.schema.get("properties").cloned());
    match properties {
        Some(Json::Object(properties)) => properties.into_iter().map(|(key, _)| key).collect(),
        _ => Vec::new(),
    }
}

/// Where the setting at `path` stands in the file.
fn place_in(o: &Object<'_>, settings: &Collected, path: &str) -> Place {
    let at = path.find(['.', '[']).unwrap_or(path.len());
    let (top, rest) = path.split_at(at);
    let rest = rest.trim_start_matches('.');
    match settings.places.get(top) {
        Some(place) if rest.is_empty() => place.clone(),
        Some(place) => {
            let inside = o.field().place_of(&relative(o, place, rest));
            Place {
                file: place.file.clone(),
                line: inside.line.max(place.line),
                path: super::reader::child_path(&place.path, rest),
            }
        }
        None => o.field().place().clone(),
    }
}

/// The path of `rest` below `place`, from the component's element.
fn relative(o: &Object<'_>, place: &Place, rest: &str) -> String {
    let below = place.path.strip_prefix(&o.field().place().path).unwrap_or_default();
    super::reader::child_path(below.trim_start_matches('.'), rest)
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
    let secret = SecretRef {
        sub_key: text(o, "sub_key").unwrap_or_default(),
        inject_as: text(o, "inject_as").unwrap_or_default(),
        store_name: o.require("store_name", "the name of a secret store")?.text()?.to_owned(),
        key: o.require("key", "the name of a secret")?.text()?.to_owned(),
    };
    Some(secret)
}

fn component_ref(field: &Field<'_>) -> Option<ComponentRef> {
    field.object(|o| ComponentRef {
        secret_store: text(o, "secret_store"),
        config_store: text(o, "config_store"),
    })
}
