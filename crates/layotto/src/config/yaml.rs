//! YAML 1.2 (core schema, with anchors and `<<` merge keys), read into [`Node`]s.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{
    MAX_BYTES,
    node::{Entry, MAX_DEPTH, MAX_NODES, Node, SyntaxError, Value},
};

/// Reads the one document of `text`; an empty file is null.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    // At the end of a text without a final line feed the parser names the line after the last.
    let last = text
        .split("\r\n")
        .flat_map(|part| part.split(['\r', '\n']))
        .count();
    let line_at = |marker: &Marker| u32::try_from(marker.line().min(last)).unwrap_or(u32::MAX);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| SyntaxError::new(line_at(error.marker()), error.info()))?;
        builder.on(event, line_at(&span.start))?;
    }
    Ok(builder.root.unwrap_or(Node {
        value: Value::Null,
        line: 1,
    }))
}

/// A list or object that is still open.
struct Open {
    node: Node,
    anchor: usize,
    /// The key read last, in an object that waits for its value.
    key: Option<Key>,
    /// The values of `<<`.
    merges: Vec<Node>,
    /// The line of each key so far.
    seen: HashMap<String, u32>,
}

enum Key {
    Named(String, u32),
    Merge,
}

/// Builds the tree from the parser's events; keeps its own stack, so that no input can exhaust
/// the thread's.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    /// Bytes of text that aliases stand for.
    repeated: usize,
}

impl Builder {
    fn on(&mut self, event: Event<'_>, line: u32) -> Result<(), SyntaxError> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(SyntaxError::new(
                line,
                "a second YAML document starts here; one is expected",
            )),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(SyntaxError::new(line, "an alias of a value that is not complete"));
                };
                self.count(size(&node), line)?;
                self.repeat(text_bytes(&node), line)?;
                self.add(Node { line, ..node }, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, line)?;
                if text == "<<" && style == ScalarStyle::Plain && self.merge_key() {
                    return Ok(());
                }
                let value = scalar(&text, style, tag.as_deref());
                self.add(Node { value, line }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.start(Value::List(Vec::new()), line, anchor),
            Event::MappingStart(anchor, _) => self.start(Value::Object(Vec::new()), line, anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(done) => self.add(merged(done.node, done.merges)?, done.anchor),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, line: u32) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let message = format!("the file holds more than {MAX_NODES} values");
        Err(SyntaxError::new(line, message))
    }

    fn repeat(&mut self, bytes: usize, line: u32) -> Result<(), SyntaxError> {
        self.repeated += bytes;
        if self.repeated <= MAX_BYTES {
            return Ok(());
        }
        let message = format!("the aliases stand for more than {} MiB of text", MAX_BYTES >> 20);
        Err(SyntaxError::new(line, message))
    }

    fn start(&mut self, value: Value, line: u32, anchor: usize) -> Result<(), SyntaxError> {
        self.count(1, line)?;
        if self.open.len() > MAX_DEPTH {
            let message = format!("lists and objects nest deeper than {MAX_DEPTH} levels");
            return Err(SyntaxError::new(line, message));
        }
        self.open.push(Open {
            node: Node { value, line },
            anchor,
            key: None,
            merges: Vec::new(),
            seen: HashMap::new(),
        });
        Ok(())
    }

    /// Takes a `<<` that stands where a key is due.
    fn merge_key(&mut self) -> bool {
        match self.open.last_mut() {
            Some(parent) if parent.key.is_none() && matches!(parent.node.value, Value::Object(_)) => {
                parent.key = Some(Key::Merge);
                true
            }
            _ => false,
        }
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.node.value {
            Value::List(items) => items.push(node),
            Value::Object(entries) => match parent.key.take() {
                None => parent.key = Some(unique_key(node, &mut parent.seen)?),
                Some(Key::Merge) => parent.merges.push(node),
                Some(Key::Named(key, line)) => entries.push(Entry {
                    key,
                    line,
                    value: node,
                }),
            },
            _ => {}
        }
        Ok(())
    }
}

fn unique_key(node: Node, seen: &mut HashMap<String, u32>) -> Result<Key, SyntaxError> {
    let line = node.line;
    let key = match node.value {
        Value::Text(text) | Value::Number(text) => text,
        Value::Bool(value) => value.to_string(),
        _ => {
            let message = format!("found {} as a key, expected a text", node.kind());
            return Err(SyntaxError::new(line, message));
        }
    };
    if let Some(first) = seen.insert(key.clone(), line) {
        let message = format!("key {key:?} is there twice, first on line {first}");
        return Err(SyntaxError::new(line, message));
    }
    Ok(Key::Named(key, line))
}

/// Puts the entries of `<<` under the object's own.
fn merged(mut node: Node, merges: Vec<Node>) -> Result<Node, SyntaxError> {
    let Value::Object(entries) = &mut node.value else {
        return Ok(node);
    };
    let sources = merges.into_iter().flat_map(|merge| match merge.value {
        Value::List(items) => items,
        _ => vec![merge],
    });
    let mut known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    for source in sources {
        let Value::Object(inherited) = source.value else {
            let message = format!("found {} under \"<<\", expected an object", source.kind());
            return Err(SyntaxError::new(source.line, message));
        };
        let added = inherited
            .into_iter()
            .filter(|entry| known.insert(entry.key.clone()));
        entries.extend(added);
    }
    Ok(node)
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(entries) => 1 + entries.iter().map(|entry| size(&entry.value)).sum::<usize>(),
        _ => 1,
    }
}

/// The bytes of all keys and texts of `node`.
fn text_bytes(node: &Node) -> usize {
    match &node.value {
        Value::Text(text) | Value::Number(text) => text.len(),
        Value::List(items) => items.iter().map(text_bytes).sum(),
        Value::Object(entries) => entries
            .iter()
            .map(|entry| entry.key.len() + text_bytes(&entry.value))
            .sum(),
        _ => 0,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    if is_text || style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number),
    }
}

/// The number in decimal. Digits after a leading zero stay a text: they are more often a
/// password or a telephone number than a quantity.
fn number(text: &str) -> Option<String> {
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).ok().map(|n| n.to_string());
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    let padded = unsigned.len() > 1
        && unsigned.starts_with('0')
        && !unsigned.starts_with("0.")
        && !unsigned.starts_with("0e");
    let plain = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.ends_with(|c: char| c.is_ascii_digit());
    let finite = text.parse::<f64>().is_ok_and(f64::is_finite);
    (plain && !padded && finite).then(|| text.trim_start_matches('+').to_owned())
}
