//! Protobuf messages as the recordings write them: JSON with proto field names, defaults left out,
//! an `Any` as type URL and bytes unless it holds a well-known wrapper.

use base64::{Engine, engine::general_purpose::STANDARD};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use serde_json::{Map, Value as Json, json};

const ANY: &str = "google.protobuf.Any";
const STRING_VALUE: &str = "type.googleapis.com/google.protobuf.StringValue";
const BYTES_VALUE: &str = "type.googleapis.com/google.protobuf.BytesValue";
/// Tag of field 1 with a length before its content.
const FIELD_ONE: u8 = 0x0a;

/// Reads a message of type `descriptor`.
pub fn read(descriptor: &MessageDescriptor, json: &Json) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if descriptor.full_name() == ANY {
        read_any(&mut message, json);
        return message;
    }
    for (name, json) in json.as_object().into_iter().flatten() {
        let field = descriptor
            .get_field_by_name(name)
            .unwrap_or_else(|| panic!("no field {name}"));
        message.set_field(&field, read_field(&field, json));
    }
    message
}

fn read_any(message: &mut DynamicMessage, json: &Json) {
    let (url, value) = match json.get("@type").and_then(Json::as_str) {
        None => (
            json["type_url"].as_str().unwrap_or_default().to_owned(),
            bytes(&json["value"]),
        ),
        Some(STRING_VALUE) => (
            STRING_VALUE.to_owned(),
            wrap(json["value"].as_str().unwrap().as_bytes()),
        ),
        Some(BYTES_VALUE) => (BYTES_VALUE.to_owned(), wrap(&bytes(&json["value"]))),
        Some(other) => panic!("cannot pack {other}"),
    };
    message.set_field_by_name("type_url", Value::String(url));
    message.set_field_by_name("value", Value::Bytes(value.into()));
}

/// A message whose field 1 holds `bytes`: StringValue and BytesValue look alike on the wire.
fn wrap(bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![FIELD_ONE];
    prost::encode_length_delimiter(bytes.len(), &mut message).unwrap();
    message.extend_from_slice(bytes);
    message
}

fn read_field(field: &FieldDescriptor, json: &Json) -> Value {
    if field.is_map() {
        let value = field.kind().as_message().unwrap().map_entry_value_field();
        let entries = json.as_object().unwrap().iter();
        return Value::Map(
            entries
                .map(|(key, json)| (MapKey::String(key.clone()), read_one(&value.kind(), json)))
                .collect(),
        );
    }
    if field.is_list() {
        return Value::List(
            json.as_array()
                .unwrap()
                .iter()
                .map(|json| read_one(&field.kind(), json))
                .collect(),
        );
    }
    read_one(&field.kind(), json)
}

fn read_one(kind: &Kind, json: &Json) -> Value {
    let integer = || {
        json.as_i64()
            .or_else(|| json.as_str()?.parse().ok())
            .unwrap_or_else(|| panic!("{json}"))
    };
    match kind {
        Kind::Message(descriptor) => Value::Message(read(descriptor, json)),
        Kind::Enum(descriptor) => Value::EnumNumber(match json.as_str() {
            Some(name) => descriptor.get_value_by_name(name).unwrap().number(),
            None => i32::try_from(integer()).unwrap(),
        }),
        Kind::String => Value::String(text(json)),
        Kind::Bytes => Value::Bytes(bytes(json).into()),
        Kind::Bool => Value::Bool(json.as_bool().unwrap()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(i32::try_from(integer()).unwrap()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(integer()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(u32::try_from(integer()).unwrap()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::try_from(integer()).unwrap()),
        Kind::Float => Value::F32(json.as_f64().unwrap() as f32),
        Kind::Double => Value::F64(json.as_f64().unwrap()),
    }
}

/// A text, or `{"repeat", "times"}` for a long one.
pub fn text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Object(long) => long["repeat"]
            .as_str()
            .unwrap()
            .repeat(usize::try_from(long["times"].as_u64().unwrap()).unwrap()),
        other => panic!("{other}"),
    }
}

/// Base64, plain or as `{"b64"}`, or a repeated byte.
pub fn bytes(json: &Json) -> Vec<u8> {
    match json {
        Json::String(text) => STANDARD.decode(text).unwrap(),
        Json::Object(object) if object.contains_key("b64") => bytes(&object["b64"]),
        Json::Null => Vec::new(),
        long => text(long).into_bytes(),
    }
}

/// Writes a message; fields at their default are left out.
pub fn write(message: &DynamicMessage) -> Json {
    let descriptor = message.descriptor();
    if descriptor.full_name() == ANY {
        return write_any(message);
    }
    let fields = message
        .fields()
        .map(|(field, value)| (field.name().to_owned(), write_field(&field, value)));
    Json::Object(fields.collect())
}

fn write_any(message: &DynamicMessage) -> Json {
    let get = |name| message.get_field_by_name(name).unwrap().into_owned();
    let (Value::String(url), Value::Bytes(value)) = (get("type_url"), get("value")) else {
        panic!("no Any")
    };
    if url.is_empty() && value.is_empty() {
        return json!({});
    }
    if url != STRING_VALUE && url != BYTES_VALUE {
        return json!({"type_url": url, "value": STANDARD.encode(&value)});
    }
    // Field 1 of either wrapper: tag, length, content.
    let length = prost::decode_length_delimiter(&value[1..]).unwrap();
    let content = &value[value.len() - length..];
    let shown = if url == STRING_VALUE {
        String::from_utf8(content.to_vec()).unwrap()
    } else {
        STANDARD.encode(content)
    };
    json!({"@type": url, "value": shown})
}

fn write_field(field: &FieldDescriptor, value: &Value) -> Json {
    match value {
        Value::Map(map) => {
            let value_kind = field.kind().as_message().unwrap().map_entry_value_field().kind();
            let entries = map.iter().map(|(key, value)| {
                let MapKey::String(key) = key else {
                    panic!("{key:?}")
                };
                (key.clone(), write_one(&value_kind, value))
            });
            Json::Object(entries.collect::<Map<_, _>>())
        }
        Value::List(list) => list.iter().map(|value| write_one(&field.kind(), value)).collect(),
        value => write_one(&field.kind(), value),
    }
}

fn write_one(kind: &Kind, value: &Value) -> Json {
    match value {
        Value::Message(message) => write(message),
        Value::EnumNumber(number) => {
            let name = kind
                .as_enum()
                .and_then(|descriptor| descriptor.get_value(*number));
            name.map_or_else(|| json!(number), |value| json!(value.name()))
        }
        Value::String(text) => json!(text),
        Value::Bytes(bytes) => json!(STANDARD.encode(bytes)),
        Value::Bool(value) => json!(value),
        Value::I32(value) => json!(value),
        Value::U32(value) => json!(value),
        Value::I64(value) => json!(value.to_string()),
        Value::U64(value) => json!(value.to_string()),
        Value::F32(value) => json!(value),
        Value::F64(value) => json!(value),
        other => panic!("{other:?}"),
    }
}
