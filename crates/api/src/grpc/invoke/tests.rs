use bytes::Bytes;
use tonic::metadata::MetadataValue;

use super::*;

fn request(
    message: CommonInvokeRequest,
    fields: &[(&'static str, &'static str)],
) -> Request<InvokeServiceRequest> {
    let mut request = Request::new(InvokeServiceRequest {
        id: "svc".to_owned(),
        message: Some(message),
    });
    for (name, value) in fields {
        request
            .metadata_mut()
            .append(*name, MetadataValue::from_static(value));
    }
    request
}

fn timeout_of(fields: &[(&'static str, &'static str)]) -> u128 {
    to_call(request(CommonInvokeRequest::default(), fields))
        .timeout
        .as_millis()
}

#[test]
fn passes_metadata_on_without_what_belongs_to_grpc() {
    let mut request = request(
        CommonInvokeRequest {
            method: "/hello".to_owned(),
            data: Some(Any {
                type_url: "ignored".to_owned(),
                value: b"body".to_vec(),
            }),
            content_type: "text/plain".to_owned(),
            http_extension: Some(HttpExtension {
                verb: Verb::Post.into(),
                querystring: "a=b".to_owned(),
            }),
        },
        &[
            ("te", "trailers"),
            ("grpc-accept-encoding", "gzip"),
            ("content-type", "application/grpc"),
            ("layotto-api-token", "secret"),
            ("x-custom", "v"),
            ("multi", "a"),
            ("multi", "b"),
        ],
    );
    request
        .metadata_mut()
        .insert_bin("text-bin", MetadataValue::from_bytes(b"z"));
    request
        .metadata_mut()
        .insert_bin("raw-bin", MetadataValue::from_bytes(b"\xff\x00"));
    let mut call = to_call(request);
    call.headers.sort();
    let expected = [
        ("multi", "a"),
        ("multi", "b"),
        ("raw-bin", "/wA"),
        ("text-bin", "z"),
        ("x-custom", "v"),
    ];
    assert_eq!(
        call.headers,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(
        (
            call.verb.as_str(),
            call.query.as_str(),
            call.content_type.as_str()
        ),
        ("POST", "a=b", "text/plain")
    );
    assert_eq!(
        (call.id.as_str(), call.method.as_str(), call.data),
        ("svc", "/hello", Bytes::from_static(b"body"))
    );
}

#[test]
fn metadata_stands_in_for_a_missing_http_extension() {
    let call = to_call(request(
        CommonInvokeRequest::default(),
        &[("verb", "PUT"), ("query_string", "x=y")],
    ));
    assert_eq!(
        (call.verb.as_str(), call.query.as_str(), call.headers.len()),
        ("PUT", "x=y", 0)
    );
    let unset = CommonInvokeRequest {
        http_extension: Some(HttpExtension::default()),
        ..CommonInvokeRequest::default()
    };
    assert_eq!(to_call(request(unset, &[])).verb, "");
}

#[test]
fn the_timeout_is_the_headers_or_three_seconds_and_never_beyond_the_callers() {
    assert_eq!(timeout_of(&[]), 3000);
    assert_eq!(timeout_of(&[("rpc_request_timeout", "500")]), 500);
    assert_eq!(timeout_of(&[("rpc_request_timeout", "0")]), 3000);
    assert_eq!(timeout_of(&[("rpc_request_timeout", "soon")]), 3000);
    assert_eq!(timeout_of(&[("rpc_request_timeout", "99999999999")]), 3000);
    assert_eq!(
        timeout_of(&[("rpc_request_timeout", "500"), ("grpc-timeout", "300m")]),
        300
    );
    assert_eq!(
        timeout_of(&[("rpc_request_timeout", "200"), ("grpc-timeout", "300m")]),
        200
    );
}

#[test]
fn returns_every_value_of_a_field_but_those_of_grpc_and_of_the_connection() {
    let mut metadata = MetadataMap::new();
    for (name, value) in [
        ("x-multi", "a"),
        ("x-multi", "b"),
        ("set-cookie", "c=d"),
        ("x-bin-bin", "aGk="),
        ("content-length", "3"),
        ("content-type", "text/plain"),
        ("grpc-status", "5"),
        ("te", "x"),
        ("user-agent", "up"),
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("bad name", "x"),
        ("x-bad", "line\nbreak"),
    ] {
        return_header(&mut metadata, name, value.to_owned());
    }
    let values: Vec<_> = metadata.get_all("x-multi").iter().collect();
    assert_eq!(values, ["a", "b"]);
    assert_eq!(metadata.get("set-cookie").unwrap(), "c=d");
    assert_eq!(
        metadata.get_bin("x-bin-bin").unwrap().to_bytes().unwrap(),
        Bytes::from_static(b"aGk=")
    );
    assert_eq!(metadata.len(), 4);
}
