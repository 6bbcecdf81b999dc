//! The one tree that JSON and YAML files are read into: values with the line they stand on.

use serde_json::{Map, Number, Value as Json};

/// How deep lists and objects may nest.
pub(super) const MAX_DEPTH: usize = 64;
/// How many values one file may hold, aliases counted as often as they are used.
pub(super) const MAX_NODES: usize = 200_000;

/// A value of the file and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub line: u32,
}

/// What a [`Node`] holds. Numbers keep the text of the file, so that no digit is lost.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

/// A key of an object with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub line: u32,
    pub value: Node,
}

/// Why a file is not one tree: the line, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub line: u32,
    pub message: String,
}

impl SyntaxError {
    pub(super) fn new(line: u32, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { line, message }
    }
}

impl Node {
    /// The kind of value, as an error text names it.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    pub(super) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Whether the value says nothing: null, false, an empty text, list or object.
    pub(super) fn is_blank(&self) -> bool {
        match &self.value {
            Value::Null | Value::Bool(false) => true,
            Value::Bool(true) | Value::Number(_) => false,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
        }
    }

    /// The same value without positions.
    pub(super) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(text) => number(text),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Object(entries) => Json::Object(object(entries)),
        }
    }

    /// The line of the value at `path`, such as `channel[0].size`; of the nearest value above it
    /// that exists otherwise.
    pub(super) fn line_of(&self, path: &str) -> u32 {
        let mut line = self.line;
        let mut node = self;
        for step in steps(path) {
            let Some(found) = node.step(step) else { break };
            (line, node) = found;
        }
        line
    }

    /// The value at `path`.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        steps(path).try_fold(self, |node, step| Some(node.step(step)?.1))
    }

    /// One step down, with its line. Keys are matched as written, else without regard to case.
    fn step(&self, step: &str) -> Option<(u32, &Self)> {
        match (&self.value, step.trim_end_matches(']')) {
            (Value::Object(entries), key) => entries
                .iter()
                .find(|entry| entry.key == key)
                .or_else(|| entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key)))
                .map(|entry| (entry.line, &entry.value)),
            (Value::List(items), index) => {
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item.line, item))
            }
            _ => None,
        }
    }
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[']).filter(|step| !step.is_empty())
}

fn object(entries: &[Entry]) -> Map<String, Json> {
    entries
        .iter()
        .map(|entry| (entry.key.clone(), entry.value.to_json()))
        .collect()
}

fn number(text: &str) -> Json {
    if let Ok(value) = text.parse::<i64>() {
        return value.into();
    }
    if let Ok(value) = text.parse::<u64>() {
        return value.into();
    }
    let value = text.parse().ok().and_then(Number::from_f64);
    value.map_or_else(|| Json::String(text.to_owned()), Json::Number)
}
