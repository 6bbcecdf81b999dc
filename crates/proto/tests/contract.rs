//! The compiled descriptors keep every name, number and type of `contract.json`. Additions are allowed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};
use serde_json::Value;

/// What a client can see of an item, by its full name.
type Surface = BTreeMap<String, String>;

#[test]
fn descriptors_keep_the_contract() {
    let wanted = contract();
    let found = compiled();
    assert!(
        wanted.len() > 700,
        "contract.json lists only {} items",
        wanted.len()
    );

    let wrong: Vec<_> = wanted
        .iter()
        .filter(|(name, shape)| found.get(*name) != Some(*shape))
        .map(|(name, shape)| format!("{name}: wanted {shape}, found {:?}", found.get(name)))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} missing or different:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn contract() -> Surface {
    let document: Value = serde_json::from_str(include_str!("../contract.json")).unwrap();
    let mut surface = Surface::new();
    for package in list(&document, "packages") {
        let name = text(package, "package");
        for method in list(package, "services").iter().flat_map(|s| list(s, "methods")) {
            surface.insert(text(method, "path").to_owned(), wanted_method(method));
        }
        for message in list(package, "messages") {
            let message_name = format!("{name}.{}", text(message, "name"));
            for field in list(message, "fields") {
                surface.insert(
                    format!("{message_name}.{}", text(field, "name")),
                    wanted_field(field),
                );
            }
            surface.insert(message_name, "message".to_owned());
        }
        for item in list(package, "enums") {
            let enum_name = format!("{name}.{}", text(item, "name"));
            for value in list(item, "values") {
                surface.insert(
                    format!("{enum_name}.{}", text(value, "name")),
                    value["number"].to_string(),
                );
            }
            surface.insert(enum_name, "enum".to_owned());
        }
    }
    surface
}

fn wanted_method(method: &Value) -> String {
    let flag = |key: &str| method[key].as_bool().unwrap();
    method_shape(
        text(method, "input"),
        text(method, "output"),
        flag("client_streaming"),
        flag("server_streaming"),
    )
}

fn wanted_field(field: &Value) -> String {
    let type_name = field["type_name"].as_str();
    let kind = match text(field, "type") {
        "map" => format!("map<{}, {}>", text(field, "key_type"), text(field, "value_type")),
        plain => labelled(text(field, "label") == "repeated", &typed(plain, type_name)),
    };
    field_shape(
        field["number"].as_i64().unwrap(),
        &kind,
        field["oneof"].as_str().unwrap_or(""),
        field["proto3_optional"].as_bool().unwrap_or(false),
        field["jstype"].as_str().unwrap_or("JS_NORMAL"),
        text(field, "json_name"),
    )
}

fn compiled() -> Surface {
    let set = FileDescriptorSet::decode(layotto_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut surface = Surface::new();
    for file in &set.file {
        add_methods(&mut surface, file);
        for message in &file.message_type {
            add_message(&mut surface, file.package(), message);
        }
        for item in &file.enum_type {
            add_enum(&mut surface, file.package(), item);
        }
    }
    surface
}

fn add_methods(surface: &mut Surface, file: &FileDescriptorProto) {
    for service in &file.service {
        for method in &service.method {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            let shape = method_shape(
                method.input_type().trim_start_matches('.'),
                method.output_type().trim_start_matches('.'),
                method.client_streaming(),
                method.server_streaming(),
            );
            surface.insert(path, shape);
        }
    }
}

fn add_message(surface: &mut Surface, scope: &str, message: &DescriptorProto) {
    let full_name = format!("{scope}.{}", message.name());
    for field in &message.field {
        surface.insert(
            format!("{full_name}.{}", field.name()),
            found_field(&full_name, message, field),
        );
    }
    for nested in message.nested_type.iter().filter(|n| !is_map_entry(n)) {
        add_message(surface, &full_name, nested);
    }
    for item in &message.enum_type {
        add_enum(surface, &full_name, item);
    }
    surface.insert(full_name, "message".to_owned());
}

fn add_enum(surface: &mut Surface, scope: &str, item: &EnumDescriptorProto) {
    let full_name = format!("{scope}.{}", item.name());
    for value in &item.value {
        surface.insert(
            format!("{full_name}.{}", value.name()),
            value.number().to_string(),
        );
    }
    surface.insert(full_name, "enum".to_owned());
}

fn found_field(full_name: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof = match field.oneof_index {
        Some(index) if !field.proto3_optional() => message.oneof_decl[index as usize].name(),
        _ => "",
    };
    let js_type = field.options.clone().unwrap_or_default().jstype().as_str_name();
    field_shape(
        i64::from(field.number()),
        &found_kind(full_name, message, field),
        oneof,
        field.proto3_optional(),
        js_type,
        field.json_name(),
    )
}

fn found_kind(full_name: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message
        .nested_type
        .iter()
        .find(|n| is_map_entry(n) && field.type_name() == format!(".{full_name}.{}", n.name()));
    match entry {
        Some(entry) => format!("map<{}, {}>", map_part(entry, "key"), map_part(entry, "value")),
        None => labelled(field.label() == Label::Repeated, &found_type(field)),
    }
}

fn map_part(entry: &DescriptorProto, part: &str) -> String {
    let field = entry.field.iter().find(|f| f.name() == part).unwrap();
    match field.type_name() {
        "" => kind(field.r#type()),
        name => name.trim_start_matches('.').to_owned(),
    }
}

fn found_type(field: &FieldDescriptorProto) -> String {
    let type_name = field.type_name.as_deref().map(|n| n.trim_start_matches('.'));
    typed(&kind(field.r#type()), type_name)
}

fn kind(of: Type) -> String {
    of.as_str_name().trim_start_matches("TYPE_").to_lowercase()
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|o| o.map_entry())
}

fn typed(kind: &str, type_name: Option<&str>) -> String {
    type_name.map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}"))
}

fn labelled(repeated: bool, kind: &str) -> String {
    format!("{}{kind}", if repeated { "repeated " } else { "" })
}

fn method_shape(input: &str, output: &str, client_streams: bool, server_streams: bool) -> String {
    format!("({input}, client stream {client_streams}) -> ({output}, server stream {server_streams})")
}

fn field_shape(
    number: i64,
    kind: &str,
    oneof: &str,
    optional: bool,
    js_type: &str,
    json_name: &str,
) -> String {
    format!("{number} {kind}, oneof {oneof:?}, optional {optional}, {js_type}, json {json_name:?}")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is not a string in {value}"))
}
