//! Schemas of settings as text for people: the type of a value, what it means.

use serde_json::Value;

/// The description, on one line.
pub fn summary(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What kind of value `property` is; `root` is the schema that it is a part of.
pub fn type_of(property: &Value, root: &Value) -> String {
    if let Some(choices) = property.get("enum").and_then(Value::as_array) {
        return one_of(choices.iter());
    }
    if let Some(variants) = property.get("oneOf").and_then(Value::as_array) {
        let constants: Vec<_> = variants
            .iter()
            .filter_map(|variant| variant.get("const"))
            .collect();
        if constants.len() == variants.len() {
            return one_of(constants.into_iter());
        }
    }
    if let Some(variants) = property.get("anyOf").and_then(Value::as_array) {
        let types: Vec<_> = variants
            .iter()
            .map(|variant| type_of(variant, root))
            .filter(|name| name != "null")
            .collect();
        return types.join(" or ");
    }
    if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
        let target = reference.strip_prefix('#').and_then(|path| root.pointer(path));
        return target.map_or_else(|| "any".to_owned(), |target| type_of(target, root));
    }
    match property.get("format").and_then(Value::as_str) {
        Some(format @ ("duration" | "secret")) => format.to_owned(),
        _ => plain_type(property),
    }
}

fn plain_type(property: &Value) -> String {
    let name = |value: &Value| match value.as_str() {
        Some("string") => "text".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("array") => "list".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    };
    match property.get("type") {
        Some(Value::Array(types)) => {
            let types = types.iter().filter(|one| one.as_str() != Some("null")).map(name);
            types.collect::<Vec<_>>().join(" or ")
        }
        Some(one) => name(one),
        None => "any".to_owned(),
    }
}

fn one_of<'v>(choices: impl Iterator<Item = &'v Value>) -> String {
    let choices = choices.map(|choice| choice.as_str().map_or_else(|| choice.to_string(), str::to_owned));
    choices.collect::<Vec<_>>().join(" | ")
}
