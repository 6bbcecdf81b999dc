use super::*;

fn pool() -> DescriptorPool {
    DescriptorPool::decode(layotto_proto::FILE_DESCRIPTOR_SET).unwrap()
}

#[test]
fn finds_methods_by_short_and_full_names() {
    let pool = pool();
    for name in [
        "SayHello",
        "Runtime/SayHello",
        "Runtime.SayHello",
        "spec.proto.runtime.v1.Runtime/SayHello",
        "/spec.proto.runtime.v1.Runtime/SayHello",
    ] {
        let method = method::find(&pool, name).unwrap();
        assert_eq!(
            method.full_name(),
            "spec.proto.runtime.v1.Runtime.SayHello",
            "{name}"
        );
    }
}

#[test]
fn says_what_cannot_be_called() {
    let pool = pool();
    for (name, expected) in [
        ("Nope", "no method is called \"Nope\"; --list shows them all"),
        (
            "sayhello",
            "no method is called \"sayhello\"; did you mean spec.proto.runtime.v1.Runtime/SayHello?",
        ),
        (
            "Runtime/PutFile",
            "spec.proto.runtime.v1.Runtime/PutFile takes a stream of messages; only methods that take one \
             message can be called",
        ),
    ] {
        assert_eq!(method::find(&pool, name).unwrap_err(), expected);
    }
}

#[test]
fn reads_requests_as_protobuf_json() {
    let method = method::find(&pool(), "GetState").unwrap();
    let json = r#"{"store_name": "s", "key": "k", "metadata": {"a": "b"}}"#;
    let message = message(&method, json).unwrap();
    let back = to_json(&message).unwrap();
    assert_eq!(back["store_name"], "s");
    assert_eq!(back["metadata"]["a"], "b");
}

#[test]
fn names_the_fields_of_a_wrong_request() {
    let method = method::find(&pool(), "SayHello").unwrap();
    let failure = message(&method, r#"{"nome": 1}"#).unwrap_err();
    assert_eq!(failure.code, 2);
    assert!(failure.message.contains("nome"), "{}", failure.message);
    assert!(
        failure.message.contains("its fields: service_name, name"),
        "{}",
        failure.message
    );
    assert_eq!(message(&method, "{} {}").unwrap_err().code, 2);
}

#[test]
fn reads_metadata() {
    let headers = [
        "Tenant: a".to_owned(),
        "x-bin: aGk=".to_owned(),
        "x-bin:aGk".to_owned(),
    ];
    let metadata = metadata(&headers).unwrap();
    assert_eq!(metadata.get("tenant").unwrap(), "a");
    let values: Vec<_> = metadata
        .get_all_bin("x-bin")
        .iter()
        .map(|v| v.to_bytes().unwrap())
        .collect();
    assert_eq!(values, ["hi", "hi"]);
    assert_eq!(
        super::metadata(&["tenant".to_owned()]).unwrap_err(),
        "header \"tenant\": expected NAME: VALUE"
    );
}

#[test]
fn prints_a_status_by_the_name_of_its_code() {
    assert_eq!(
        failed(&Status::not_found("no such key")).message,
        "NOT_FOUND: no such key"
    );
    assert_eq!(failed(&Status::unknown("")).message, "UNKNOWN");
}

#[test]
fn what_a_service_answered_is_printed_as_bytes() {
    let answer = method::find(&pool(), "InvokeService").unwrap().output();
    let wire = [0x0a, 0x04, 0x12, 0x02, b'h', b'i', 0x12, 0x01, b't'];
    let message = DynamicMessage::decode(answer, wire.as_slice()).unwrap();
    let json = to_json(&message).unwrap();
    assert_eq!(json["data"], serde_json::json!({"value": "aGk="}));
    assert_eq!(json["content_type"], "t");
}
