//! `grpc_config`: the application and every component section.

use std::{collections::BTreeMap, time::Duration};

use layotto_core::{Registry, registry::AnyKind};

use super::{
    component::{Connections, Shape, Types, component, connection},
    model::{App, ComponentConfig, Components, HealthProbe, ProbeKind, RuntimeConfig},
    process::{duration, text},
    reader::{Field, Object},
    references,
};

/// Reads `grpc_config` and checks its components against the registry.
pub(super) fn read(field: &Field<'_>, registry: &Registry) -> Option<RuntimeConfig> {
    let runtime = field.object(|o| {
        // Upstream parses it and hands it to nobody.
        o.ignore(&["extends"]);
        let connections = o.get("connections").map(|field| connections(&field));
        let sections = Sections {
            o,
            registry,
            connections: &connections.unwrap_or_default(),
        };
        RuntimeConfig {
            app: o.get("app").and_then(|field| app(&field)).unwrap_or_default(),
            secret_store: sections.read("secret_store"),
            config_store: sections.read("config_store"),
            custom_component: sections.custom(),
            hellos: sections.read("hellos"),
            state: sections.read("state"),
            rpcs: sections.read("rpcs"),
            bindings: sections.read("bindings"),
            pub_subs: sections.read("pub_subs"),
            file: sections.read("file"),
            oss: sections.read("oss"),
            lock: sections.read("lock"),
            sequencer: sections.read("sequencer"),
            cryption: sections.read("cryption"),
            email: sections.read("email"),
            phone: sections.read("phone"),
            sms: sections.read("sms"),
        }
    })?;
    references::check(&runtime, field.findings());
    Some(runtime)
}

impl RuntimeConfig {
    /// Every section with its components, in the order in which they are opened.
    pub fn sections(&self) -> Vec<(&str, &Components)> {
        let mut sections: Vec<(&str, &Components)> = vec![
            ("secret_store", &self.secret_store),
            ("config_store", &self.config_store),
        ];
        let custom = self.custom_component.iter();
        sections.extend(custom.map(|(kind, components)| (kind.as_str(), components)));
        sections.extend([
            ("hellos", &self.hellos),
            ("state", &self.state),
            ("rpcs", &self.rpcs),
            ("bindings", &self.bindings),
            ("pub_subs", &self.pub_subs),
            ("file", &self.file),
            ("oss", &self.oss),
            ("lock", &self.lock),
            ("sequencer", &self.sequencer),
            ("cryption", &self.cryption),
            ("email", &self.email),
            ("phone", &self.phone),
            ("sms", &self.sms),
        ]);
        sections
    }

    /// Every component, in the order in which they are opened.
    pub fn components(&self) -> impl Iterator<Item = &ComponentConfig> {
        self.sections()
            .into_iter()
            .flat_map(|(_, components)| components.values())
    }
}

fn connections(field: &Field<'_>) -> Connections {
    field
        .map()
        .into_iter()
        .filter_map(|(name, field)| Some((name.to_owned(), connection(&field)?)))
        .collect()
}

struct Sections<'r, 'a> {
    o: &'r Object<'a>,
    registry: &'r Registry,
    connections: &'r Connections,
}

impl Sections<'_, '_> {
    fn read(&self, section: &'static str) -> Components {
        let Some(field) = self.o.get(section) else {
            return Components::new();
        };
        let kinds = self.registry.kinds();
        let kind = kinds.into_iter().find(|kind| kind.section() == section);
        self.components(&field, section, &Types::of_section(section, kind))
    }

    fn custom(&self) -> BTreeMap<String, Components> {
        let kinds = self.o.get("custom_component");
        let kinds = kinds.map(|field| field.map()).unwrap_or_default();
        kinds
            .into_iter()
            .filter_map(|(name, field)| self.custom_kind(name, &field))
            .collect()
    }

    /// An unknown kind is no error: upstream only logs it.
    fn custom_kind(&self, name: &str, field: &Field<'_>) -> Option<(String, Components)> {
        let Some(kind) = self.registry.custom.get(name) else {
            field.unsupported(format!(
                "no custom kind {name:?} is compiled in: its components are left out"
            ));
            return None;
        };
        let types = Types::of_custom(kind as &dyn AnyKind);
        Some((name.to_owned(), self.components(field, name, &types)))
    }

    fn components(&self, field: &Field<'_>, kind: &str, types: &Types<'_>) -> Components {
        let shape = Shape::of(kind);
        field
            .map()
            .into_iter()
            .filter_map(|(name, field)| {
                let component = component(&field, kind, name, shape, types, self.connections)?;
                Some((name.to_owned(), component))
            })
            .collect()
    }
}

fn app(field: &Field<'_>) -> Option<App> {
    field.object(|o| {
        let default = App::default();
        App {
            app_id: text(o, "app_id").unwrap_or_default(),
            callback_host: text(o, "grpc_callback_host").unwrap_or(default.callback_host),
            callback_port: o
                .get("grpc_callback_port")
                .and_then(|field| field.port())
                .unwrap_or_default(),
            health_probe: o
                .get("health_probe")
                .and_then(|field| field.object(health_probe)?),
        }
    })
}

fn health_probe(o: &Object<'_>) -> Option<HealthProbe> {
    let kinds = [
        ("grpc", ProbeKind::Grpc),
        ("http", ProbeKind::Http),
        ("tcp", ProbeKind::Tcp),
    ];
    let kind = o.require("type", "\"grpc\", \"http\" or \"tcp\"");
    let threshold = o.get("threshold").map_or(Some(3), |field| {
        field
            .number::<std::num::NonZeroU32>("a whole number, 1 or more")
            .map(u32::from)
    });
    let probe = HealthProbe {
        path: text(o, "path").unwrap_or_else(|| "/".to_owned()),
        interval: duration(o, "interval").unwrap_or(Duration::from_secs(5)),
        timeout: duration(o, "timeout").unwrap_or(Duration::from_millis(500)),
        threshold: threshold?,
        kind: kind?.choice(&kinds)?,
    };
    if probe.interval.is_zero() || probe.timeout.is_zero() {
        o.field().error("interval and timeout must be longer than 0s");
    }
    Some(probe)
}
