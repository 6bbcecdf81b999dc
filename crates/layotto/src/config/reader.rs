//! Reads typed values out of the tree. Every reader reports what does not fit and goes on, so that
//! one run finds all errors.

mod typed;

pub(super) use self::typed::Others;

use std::{
    cell::RefCell,
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use layotto_core::GoDuration;

use super::{
    node::{Entry, Node, Value},
    report::{Findings, Place},
    suggest::nearest,
};

/// A value with its path.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub node: &'a Node,
    place: Place,
    findings: &'a Findings,
}

/// An object whose keys are fixed: matched without regard to case, as Go matches struct fields.
pub(super) struct Object<'a> {
    field: Field<'a>,
    entries: &'a [Entry],
    read: RefCell<Vec<&'static str>>,
}

impl<'a> Field<'a> {
    pub(super) fn root(node: &'a Node, file: Arc<str>, findings: &'a Findings) -> Self {
        let place = Place {
            file,
            line: node.line,
            path: String::new(),
        };
        Self {
            node,
            place,
            findings,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The folder of the file, where relative paths are looked up second.
    pub(super) fn folder(&self) -> PathBuf {
        let file = Path::new(&*self.place.file);
        file.parent().unwrap_or(Path::new("")).to_owned()
    }

    pub(super) fn error(&self, message: impl Into<String>) {
        self.findings.error(self.place.clone(), message);
    }

    pub(super) fn unsupported(&self, message: impl Into<String>) {
        self.findings.unsupported(self.place.clone(), message);
    }

    pub(super) fn advise(&self, message: impl Into<String>) {
        self.findings.advise(self.place.clone(), message);
    }

    pub(super) fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// Reports that the value is of the wrong kind.
    pub(super) fn refuse<T>(&self, accepted: &str) -> Option<T> {
        self.error(format!("found {}, expected {accepted}", self.node.kind()));
        None
    }

    /// A text. Numbers and booleans are not taken: where upstream wants a text it refuses them too.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.text_as("a text")
    }

    /// A text; `accepted` says which.
    pub(super) fn text_as(&self, accepted: &str) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => self.refuse(accepted),
        }
    }

    /// A boolean, also written as a text.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) => match text.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
                _ => self.refuse("true or false"),
            },
            _ => self.refuse("true or false"),
        }
    }

    /// A number, also written as a text.
    pub(super) fn number<T: FromStr>(&self, accepted: &str) -> Option<T> {
        let text = match &self.node.value {
            Value::Number(text) | Value::Text(text) => text.trim(),
            _ => return self.refuse(accepted),
        };
        text.parse().ok().or_else(|| match &self.node.value {
            Value::Number(_) => {
                self.error(format!("found {text}, expected {accepted}"));
                None
            }
            _ => self.refuse(accepted),
        })
    }

    /// A TCP port.
    pub(super) fn port(&self) -> Option<u16> {
        self.number("a port, 0 to 65535")
    }

    /// A duration in Go's syntax.
    pub(super) fn duration(&self) -> Option<Duration> {
        const ACCEPTED: &str = "a duration such as \"300ms\", \"5s\" or \"1h30m\"";
        let text = self.text_as(ACCEPTED)?;
        match text.parse::<GoDuration>() {
            Ok(GoDuration(duration)) => Some(duration),
            Err(_) => {
                self.error(format!("found {text:?}, expected {ACCEPTED}"));
                None
            }
        }
    }

    /// One of a few words; the error names the word found.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let accepted = list_of(choices.iter().map(|(word, _)| *word));
        let text = self.text_as(&accepted)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            self.error(format!("found {text:?}, expected {accepted}"));
        }
        found.map(|(_, value)| *value)
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Vec<Self> {
        let Value::List(items) = &self.node.value else {
            self.refuse::<()>("a list");
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a Node)| {
            let place = Place {
                file: Arc::clone(&self.place.file),
                line: node.line,
                path: item_path(&self.place.path, index),
            };
            Self {
                node,
                place,
                findings: self.findings,
            }
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The entries of an object whose keys are names, which keep their case.
    pub(super) fn map(&self) -> Vec<(&'a str, Self)> {
        let Value::Object(entries) = &self.node.value else {
            self.refuse::<()>("an object");
            return Vec::new();
        };
        entries
            .iter()
            .map(|entry| (entry.key.as_str(), self.child(entry)))
            .collect()
    }

    /// Reads an object of fixed keys; the keys that `read` does not ask for are unknown.
    pub(super) fn object<T>(&self, read: impl FnOnce(&Object<'a>) -> T) -> Option<T> {
        let Value::Object(entries) = &self.node.value else {
            return self.refuse("an object");
        };
        let object = Object {
            field: self.clone(),
            entries,
            read: RefCell::default(),
        };
        let value = read(&object);
        object.report_rest();
        Some(value)
    }

    fn child(&self, entry: &'a Entry) -> Self {
        let place = Place {
            file: Arc::clone(&self.place.file),
            line: entry.line,
            path: child_path(&self.place.path, &entry.key),
        };
        Self {
            node: &entry.value,
            place,
            findings: self.findings,
        }
    }
}

impl<'a> Object<'a> {
    /// The value of `key`; null counts as absent.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'a>> {
        self.read.borrow_mut().push(key);
        let mut same = self
            .entries
            .iter()
            .filter(|entry| entry.key.eq_ignore_ascii_case(key));
        let field = self.field.child(same.next()?);
        if let Some(again) = same.next() {
            let message = format!(
                "the same key as on line {}: case does not count here",
                field.place.line
            );
            self.field.child(again).error(message);
        }
        (!field.node.is_null()).then_some(field)
    }

    /// The value of `key`; reports when it is missing.
    pub(super) fn require(&self, key: &'static str, accepted: &str) -> Option<Field<'a>> {
        let field = self.get(key);
        if field.is_none() {
            let mut place = self.field.place.clone();
            place.path = child_path(&place.path, key);
            self.field
                .findings
                .error(place, format!("is missing, expected {accepted}"));
        }
        field
    }

    /// Keys that upstream reads and that mean nothing here.
    pub(super) fn ignore(&self, keys: &[&'static str]) {
        self.read.borrow_mut().extend(keys);
    }

    /// Keys that upstream reads and that are not built yet; blank values ask for nothing.
    pub(super) fn later(&self, keys: &[&'static str]) {
        for key in keys {
            if let Some(field) = self.get(key).filter(|field| !field.node.is_blank()) {
                field.unsupported(format!("{key} is not supported yet and has no effect"));
            }
        }
    }

    /// The whole object.
    pub(super) fn field(&self) -> &Field<'a> {
        &self.field
    }

    fn report_rest(&self) {
        let known = self.read.borrow();
        for entry in self.entries {
            if known.iter().any(|key| entry.key.eq_ignore_ascii_case(key)) {
                continue;
            }
            let message = unknown_key(&entry.key, known.iter().copied());
            self.field
                .findings
                .unknown(self.field.child(entry).place, message);
        }
    }
}

/// The text for a key that nothing reads.
pub(super) fn unknown_key<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> String {
    match nearest(key, known) {
        Some(meant) => format!("nothing reads this key; did you mean {meant:?}?"),
        None => "nothing reads this key".to_owned(),
    }
}

/// `a`, `b` or `c`, quoted.
pub(super) fn list_of<T: Display>(words: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// The path of `key` under `path`.
pub(super) fn child_path(path: &str, key: &str) -> String {
    if path.is_empty() {
        return key.to_owned();
    }
    if key.starts_with('[') {
        return format!("{path}{key}");
    }
    format!("{path}.{key}")
}

/// The path of element `index` under `path`.
pub(super) fn item_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
