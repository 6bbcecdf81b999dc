//! The settings of a component while they are put together, with their places in the file.

use std::collections::BTreeMap;

use layotto_core::Settings;
use serde_json::{Map, Value as Json};

use crate::config::{
    node::{Node, Value},
    reader::{Field, child_path},
    report::Place,
};

/// Settings by key.
#[derive(Debug, Clone, Default)]
pub(super) struct Collected(BTreeMap<String, Setting>);

/// A setting, and where the file says so.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    node: Node,
    pub place: Place,
}

impl Setting {
    /// The text that it is.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn is_absent(&self) -> bool {
        self.node.is_null() || self.text() == Some("")
    }
}

impl Collected {
    /// Adds a setting; replaces one of the same key.
    pub(super) fn insert(&mut self, key: &str, field: &Field<'_>) {
        let setting = Setting {
            node: field.node.clone(),
            place: field.place().clone(),
        };
        self.0.insert(key.to_owned(), setting);
    }

    /// Adds every entry of an object.
    pub(super) fn insert_all(&mut self, field: &Field<'_>) {
        for (key, value) in field.map() {
            self.insert(key, &value);
        }
    }

    /// Fills in what `base` has and `self` has not, or has blank.
    pub(super) fn inherit(&mut self, base: &Self) {
        for (key, setting) in &base.0 {
            if !self.has(key) {
                self.0.insert(key.clone(), setting.clone());
            }
        }
    }

    /// Whether there is a value for `key`; a blank one is none.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|setting| !setting.is_absent())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.0.get(key)
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Setting> {
        self.0.remove(key)
    }

    /// The values alone.
    pub(super) fn to_json(&self) -> Map<String, Json> {
        let values = self.0.iter();
        values
            .map(|(key, setting)| (key.clone(), setting.node.to_json()))
            .collect()
    }

    /// What the component gets.
    pub(super) fn settings(&self) -> Settings {
        Settings::new(self.to_json())
    }

    /// Where the setting at `path`, such as `channel[0].size`, stands in the file.
    pub(super) fn place_of(&self, path: &str) -> Option<Place> {
        let at = path.find(['.', '[']).unwrap_or(path.len());
        let (top, rest) = path.split_at(at);
        let Setting { node, place } = self.0.get(top)?;
        if rest.is_empty() {
            return Some(place.clone());
        }
        let rest = rest.trim_start_matches('.');
        Some(Place {
            line: node.line_of(rest).max(place.line),
            path: child_path(&place.path, rest),
            ..place.clone()
        })
    }
}
