//! Component types: whether the one named exists, and whether its settings fit.

use layotto_core::{Settings, registry::AnyKind};
use serde_json::Value as Json;

use super::{collected::Collected, shape::Shape};
use crate::config::{
    known,
    model::SecretRef,
    reader::{Field, Object, unknown_key},
    report::Place,
};

/// The component types of one section.
pub struct Types<'r> {
    kind: Option<&'r dyn AnyKind>,
    later: Vec<&'static str>,
    /// The beginning of upstream's sentence for a type that it does not know, and its end.
    refusal: (&'static str, &'static str),
}

impl<'r> Types<'r> {
    /// The types of a section of `grpc_config`; `kind` is `None` for a section without components yet.
    pub fn of_section(section: &str, kind: Option<&'r dyn AnyKind>) -> Self {
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
        Self { kind, later, refusal }
    }

    /// The types of a custom kind.
    pub fn of_custom(kind: &'r dyn AnyKind) -> Self {
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

    /// The settings of the type called `name`.
    fn settings_of(&self, name: &str) -> Vec<String> {
        let listed = self.kind.map(AnyKind::listed).unwrap_or_default();
        let found = listed.into_iter().find(|listed| listed.name == name);
        let properties = found.and_then(|listed| listed.schema.get("properties").cloned());
        match properties {
            Some(Json::Object(properties)) => properties.into_iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        }
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

/// A component to check.
pub(super) struct Candidate<'c, 'a> {
    /// The component's element.
    pub element: &'c Object<'a>,
    /// Where its type is named.
    pub type_field: &'c Field<'a>,
    /// Its type.
    pub type_name: &'c str,
    /// Its settings, without secrets.
    pub settings: &'c Collected,
    /// The secrets to come.
    pub secret_refs: &'c [SecretRef],
    /// What elements of its section look like.
    pub shape: Shape,
}

impl Candidate<'_, '_> {
    /// Reports a type that is not there, and settings that do not fit it.
    pub(super) fn check(&self, types: &Types<'_>) {
        let kind = types.kind;
        match kind.and_then(|kind| kind.check(self.type_name, &self.probe())) {
            Some(Ok(unknown)) => self.report_unknown(&unknown, types),
            Some(Err(error)) if self.is_injected(&error.path) => {}
            Some(Err(error)) => {
                let findings = self.element.field().findings();
                findings.error(self.place_of(&error.path), error.message);
            }
            None if types.later.contains(&self.type_name) => self.type_field.unsupported(format!(
                "type {} is not supported yet: the component will be DOWN",
                self.type_name
            )),
            None => types.refuse(self.type_field, self.type_name),
        }
    }

    /// The settings to check: without what the runtime takes, with a stand-in for each secret. The
    /// stand-in reads as a text, a number, a boolean and a duration.
    fn probe(&self) -> Settings {
        const STAND_IN: &str = "0";
        let mut values = self.settings.to_json();
        for key in self.shape.runtime_keys {
            values.remove(*key);
        }
        for target in self.secret_refs.iter().map(SecretRef::target) {
            if !target.is_empty() && !self.shape.runtime_keys.contains(&target) {
                values.insert(target.to_owned(), STAND_IN.into());
            }
        }
        Settings::new(values)
    }

    /// Whether a secret fills in the setting: it cannot be judged before the secret is read.
    fn is_injected(&self, path: &str) -> bool {
        let top = path.split(['.', '[']).next().unwrap_or_default();
        self.secret_refs.iter().any(|secret| secret.target() == top)
    }

    fn report_unknown(&self, paths: &[String], types: &Types<'_>) {
        let known = types.settings_of(self.type_name);
        for path in paths.iter().filter(|path| !self.is_injected(path)) {
            let key = path.rsplit('.').next().unwrap_or(path);
            let message = unknown_key(key, known.iter().map(String::as_str));
            let findings = self.element.field().findings();
            findings.unknown(self.place_of(path), message);
        }
    }

    fn place_of(&self, path: &str) -> Place {
        let place = self.settings.place_of(path);
        place.unwrap_or_else(|| self.element.field().place().clone())
    }
}
