//! Reads whole structs of the data plane: every value, key and line is reported as the readers of
//! single fields do it, driven by the struct's schema.

use layotto_core::Settings;
use layotto_mesh::{
    config::{ConfigError, Fate, OtherKey},
    filter::{self, Kind},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::{Field, child_path, item_path, unknown_key};
use crate::config::report::Place;

/// Keys that a struct and those within it do not take, each list with the place of its struct,
/// such as `clusters[]`; empty for the outermost.
pub(in crate::config) type Others = &'static [(&'static str, &'static [OtherKey])];

impl Field<'_> {
    /// The value as a `T`, whose keys are matched without regard to case. Keys that `T` does not
    /// have are looked up in `others`; those that are not there either are unknown.
    pub(in crate::config) fn typed<T>(&self, others: Others) -> Option<T>
    where
        T: DeserializeOwned + JsonSchema,
    {
        let schema = schemars::schema_for!(T).to_value();
        let shape = Shape::root(&schema);
        let Json::Object(object) = shape.fold_case(self.node.to_json()) else {
            return self.refuse("an object");
        };
        match Settings::new(object).parse::<T>() {
            Ok(parsed) => {
                for path in &parsed.unknown {
                    self.report_key(path, others, &shape);
                }
                Some(parsed.config)
            }
            Err(error) => {
                self.findings().error(self.place_at(&error.path), error.message);
                None
            }
        }
    }

    /// The configuration of a stream filter, checked by building one. `None`: it is wrong.
    pub(in crate::config) fn filter_config(&self, kind: &Kind) -> Option<Json> {
        let schema = (kind.schema)().to_value();
        let shape = Shape::root(&schema);
        let config = shape.fold_case(self.node.to_json());
        for path in shape.unknown(&config) {
            self.report_key(&path, &[("", kind.other_keys)], &shape);
        }
        match (kind.build)(&config, &filter::Context::default()) {
            Ok(_) => Some(config),
            Err(error) => {
                self.refuse_built(error);
                None
            }
        }
    }

    /// Reports why something could not be built from this value.
    pub(in crate::config) fn refuse_built(&self, error: ConfigError) {
        self.findings().error(self.place_at(&error.path), error.message);
    }

    /// Advises on what is at `path` under this value.
    pub(in crate::config) fn advise_at(&self, path: &str, message: impl Into<String>) {
        self.findings().advise(self.place_at(path), message);
    }

    fn report_key(&self, path: &str, others: &[(&str, &[OtherKey])], shape: &Shape<'_>) {
        let place = self.place_at(path);
        let mut keys = others
            .iter()
            .flat_map(|(at, keys)| keys.iter().map(move |key| (at, key)));
        let Some((_, other)) = keys.find(|(at, key)| key.is_under(at, path)) else {
            let key = path.rsplit('.').next().unwrap_or(path);
            let siblings = shape.keys_beside(path);
            let message = unknown_key(key, siblings.iter().map(String::as_str));
            return self.findings().unknown(place, message);
        };
        if other.fate == Fate::Later && !self.is_blank_at(path) {
            let key = path.rsplit('.').next().unwrap_or(path);
            let message = format!("{key} is not supported yet and has no effect");
            self.findings().unsupported(place, message);
        }
    }

    fn place_at(&self, path: &str) -> Place {
        Place {
            line: self.node.line_of(path),
            path: match path {
                "" => self.place().path.clone(),
                path => child_path(&self.place().path, path),
            },
            ..self.place().clone()
        }
    }

    fn is_blank_at(&self, path: &str) -> bool {
        self.node.at(path).is_none_or(|node| node.is_blank())
    }
}

/// A part of a JSON schema, with the whole for its references.
#[derive(Clone, Copy)]
struct Shape<'s> {
    whole: &'s Json,
    part: &'s Json,
}

impl<'s> Shape<'s> {
    fn root(schema: &'s Json) -> Self {
        Self {
            whole: schema,
            part: schema,
        }
    }

    /// The schemas that apply here: the part itself, what it refers to, its alternatives.
    fn all(self) -> Vec<Self> {
        let mut all = vec![self];
        let reference = self.part.get("$ref").and_then(Json::as_str);
        let target = reference.and_then(|text| self.whole.pointer(text.trim_start_matches('#')));
        let several = ["anyOf", "allOf", "oneOf"].into_iter();
        let branches = several.filter_map(|key| self.part.get(key)?.as_array()).flatten();
        for part in target.into_iter().chain(branches) {
            all.extend(Self { part, ..self }.all());
        }
        all
    }

    fn properties(self) -> Vec<(&'s str, Self)> {
        let objects = self.all().into_iter();
        let maps = objects.filter_map(|shape| shape.part.get("properties")?.as_object());
        maps.flatten()
            .map(|(key, part)| (key.as_str(), Self { part, ..self }))
            .collect()
    }

    fn under(self, key: &str) -> Option<Self> {
        self.all()
            .into_iter()
            .find_map(|shape| shape.part.get(key).filter(|part| part.is_object()))
            .map(|part| Self { part, ..self })
    }

    /// The value with the keys of its objects written as the schema writes them.
    fn fold_case(self, value: Json) -> Json {
        match value {
            Json::Object(object) => Json::Object(self.fold_object(object)),
            Json::Array(items) => match self.under("items") {
                Some(inner) => items.into_iter().map(|item| inner.fold_case(item)).collect(),
                None => Json::Array(items),
            },
            other => other,
        }
    }

    fn fold_object(self, object: Map<String, Json>) -> Map<String, Json> {
        let properties = self.properties();
        let rest = self.under("additionalProperties");
        let fold = |(key, value): (String, Json)| {
            let named = properties.iter().find(|(name, _)| *name == key).or_else(|| {
                properties
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(&key))
            });
            match (named, rest) {
                (Some((name, shape)), _) => ((*name).to_owned(), shape.fold_case(value)),
                (None, Some(shape)) => (key, shape.fold_case(value)),
                (None, None) => (key, value),
            }
        };
        object.into_iter().map(fold).collect()
    }

    /// Paths of keys that no property takes.
    fn unknown(self, value: &Json) -> Vec<String> {
        let mut unknown = Vec::new();
        self.find_unknown(value, "", &mut unknown);
        unknown
    }

    fn find_unknown(self, value: &Json, path: &str, unknown: &mut Vec<String>) {
        match value {
            Json::Object(object) => {
                let properties = self.properties();
                let rest = self.under("additionalProperties");
                // A schema without properties takes any object.
                let open = properties.is_empty() && rest.is_none();
                for (key, value) in object {
                    let path = child_path(path, key);
                    match properties.iter().find(|(name, _)| name == key) {
                        Some((_, shape)) => shape.find_unknown(value, &path, unknown),
                        None => match rest {
                            Some(shape) => shape.find_unknown(value, &path, unknown),
                            None if open => {}
                            None => unknown.push(path),
                        },
                    }
                }
            }
            Json::Array(items) => {
                let Some(inner) = self.under("items") else { return };
                for (index, item) in items.iter().enumerate() {
                    inner.find_unknown(item, &item_path(path, index), unknown);
                }
            }
            _ => {}
        }
    }

    /// The keys known where the last step of `path` stands.
    fn keys_beside(self, path: &str) -> Vec<String> {
        let mut steps: Vec<&str> = path.split(['.', '[']).collect();
        steps.pop();
        let mut here = Some(self);
        for step in steps {
            here = here.and_then(|shape| match step.ends_with(']') {
                true => shape.under("items"),
                false => Some(shape.properties().into_iter().find(|(key, _)| *key == step)?.1),
            });
        }
        let properties = here.map(Self::properties).unwrap_or_default();
        properties.into_iter().map(|(key, _)| key.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::Deserialize;

    use super::*;
    use crate::config::{json, report::Findings};

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Outer {
        name: String,
        #[serde(rename = "Inner")]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Inner {
        weight: u32,
    }

    const INNER: &[OtherKey] = &[OtherKey {
        path: "metadata",
        fate: Fate::Later,
        why: "",
    }];
    const OUTER: &[OtherKey] = &[OtherKey {
        path: "mark",
        fate: Fate::Ignored,
        why: "",
    }];
    const OTHERS: Others = &[("", OUTER), ("inner[]", INNER)];

    fn read(text: &str) -> (Option<Outer>, Vec<String>) {
        let node = json::parse(text).unwrap();
        let findings = Findings::default();
        let outer = Field::root(&node, Arc::from("f"), &findings).typed(OTHERS);
        let report = findings.into_report();
        (outer, report.to_string().lines().map(str::to_owned).collect())
    }

    #[test]
    fn keys_are_matched_without_regard_to_case() {
        let (outer, report) = read(r#"{"NAME": "a", "inner": [{"Weight": "3"}]}"#);
        let inner = vec![Inner { weight: 3 }];
        let name = "a".to_owned();
        assert_eq!((outer, report), (Some(Outer { name, inner }), vec![]));
    }

    #[test]
    fn other_keys_meet_their_fate_with_their_line() {
        let text = "{\"mark\": 1, \"inner\": [{},\n{\"metadata\": {\"a\": 1}, \"wieght\": 1}]}";
        let (_, report) = read(text);
        assert_eq!(report.len(), 2, "{report:?}");
        let all = report.join("\n");
        assert!(all.contains("f:2: Inner[1].wieght"), "{all}");
        assert!(all.contains("did you mean \"weight\""), "{all}");
        assert!(
            all.contains("f:2: Inner[1].metadata: metadata is not supported yet"),
            "{all}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_an_error_where_it_stands() {
        let (outer, report) = read("{\"inner\":\n[{\"weight\": \"many\"}]}");
        assert_eq!(outer, None);
        assert!(report[0].contains("f:2:"), "{report:?}");
    }
}
