use layotto_core::ErrorKind;
use layotto_proto::runtime::v1::{GetStateRequest, InvokeServiceRequest, SayHelloRequest};
use tonic::{Code, codec::CompressionEncoding};
use tonic_types::StatusExt;

use super::*;

const SAY_HELLO: &str = "/spec.proto.runtime.v1.Runtime/SayHello";

fn hello(name: &str) -> SayHelloRequest {
    SayHelloRequest {
        service_name: "demo".to_owned(),
        name: name.to_owned(),
        data: None,
    }
}

#[tokio::test]
async fn framework_errors_are_worded_as_grpc_go_does() {
    let served = Served::new(Options::default());
    for (path, message, code, text) in [
        (
            SAY_HELLO,
            &b"\xff\xff\xff"[..],
            Code::Internal,
            "grpc: error unmarshalling request: proto:\u{a0}cannot parse invalid wire-format data",
        ),
        (
            SAY_HELLO,
            b"\x0a\x01\xff",
            Code::Internal,
            "grpc: error unmarshalling request: string field contains invalid UTF-8",
        ),
        (
            "/spec.proto.runtime.v1.Runtime/Nope",
            b"",
            Code::Unimplemented,
            "unknown method Nope for service spec.proto.runtime.v1.Runtime",
        ),
        (
            "/no.such.Service/X",
            b"",
            Code::Unimplemented,
            "unknown service no.such.Service",
        ),
        (
            "/dapr.proto.runtime.v1.Dapr/GetMetadata",
            b"",
            Code::Unimplemented,
            "unknown service dapr.proto.runtime.v1.Dapr",
        ),
        (
            "/spec.proto.extension.v1.s3.ObjectStorageService/HeadObject",
            b"",
            Code::Unimplemented,
            "method HeadObject of service spec.proto.extension.v1.s3.ObjectStorageService is not implemented yet",
        ),
    ] {
        let status = served.raw(path, message).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text), "{path}");
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let served = Served::new(Options::default());
    let answer = served
        .raw(SAY_HELLO, b"\x0a\x04demo\x12\x01n\xa2\x06\x03abc")
        .await
        .unwrap();
    assert_eq!(answer, b"\x0a\x08hello, n");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_one_just_under_it_is_not() {
    let served = Served::new(Options::default());
    let mut client = served.client().max_decoding_message_size(8 << 20);
    let name = "x".repeat(4_194_304 - 30);
    assert_eq!(
        client
            .say_hello(hello(&name))
            .await
            .unwrap()
            .into_inner()
            .hello
            .len(),
        name.len() + 7
    );
    let status = client.say_hello(hello(&"x".repeat(4_194_304))).await.unwrap_err();
    let text = "grpc: received message larger than max (4194315 vs. 4194304)";
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text));

    let small = Served::new(Options {
        max_message_bytes: 100,
        ..Options::default()
    });
    let status = small
        .client()
        .say_hello(hello(&"x".repeat(200)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
}

// deviation: D026
#[tokio::test]
async fn compressed_requests_are_understood_and_answered_likewise() {
    let served = Served::new(Options::default());
    let mut plain = served.client().accept_compressed(CompressionEncoding::Gzip);
    let answer = plain.say_hello(hello("a")).await.unwrap();
    assert_eq!(answer.metadata().get("grpc-encoding"), None);
    let mut compressing = plain.send_compressed(CompressionEncoding::Gzip);
    let answer = compressing.say_hello(hello("b")).await.unwrap();
    assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(answer.into_inner().hello, "hello, b");
}

#[tokio::test]
async fn errors_carry_a_reason_and_where_they_come_from() {
    let served = Served::new(Options::default());
    served.fake.fail(ErrorKind::Unavailable, "away");
    let request = GetStateRequest {
        store_name: "demo".to_owned(),
        key: "k".to_owned(),
        ..GetStateRequest::default()
    };
    let status = served.client().get_state(request).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "fail to get k from state store demo: away")
    );
    assert_eq!(
        (info.domain.as_str(), info.reason.as_str()),
        ("layotto", "UNAVAILABLE")
    );
    assert_eq!(
        (
            info.metadata["kind"].as_str(),
            info.metadata["component"].as_str()
        ),
        ("state", "demo")
    );
}

#[tokio::test]
async fn every_service_but_health_wants_the_token() {
    let served = Served::new(with_token("secret"));
    let mut client = served.client();
    for (name, value) in [
        ("layotto-api-token", "wrong"),
        ("dapr-api-token", "secre"),
        ("x-token", "secret"),
    ] {
        let mut request = tonic::Request::new(hello("a"));
        request.metadata_mut().insert(name, value.parse().unwrap());
        assert_eq!(
            client.say_hello(request).await.unwrap_err().code(),
            Code::Unauthenticated,
            "{name}"
        );
    }
    for name in ["layotto-api-token", "dapr-api-token"] {
        let mut request = tonic::Request::new(hello("a"));
        request.metadata_mut().insert(name, "secret".parse().unwrap());
        client.say_hello(request).await.unwrap();
    }
    for (path, code) in [
        (
            "/spec.proto.runtime.v1.Lifecycle/ApplyConfiguration",
            Code::Unauthenticated,
        ),
        (
            "/spec.proto.extension.v1.sms.SmsService/SendSmsWithTemplate",
            Code::Unauthenticated,
        ),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            Code::Unauthenticated,
        ),
        ("//spec.proto.runtime.v1.Runtime/SayHello", Code::Unimplemented),
        ("/spec.proto.runtime.v1.Runtime/SayHello/", Code::Unimplemented),
        (
            "/spec.proto.runtime.v1.Runtime/SayHello?/grpc.health.v1.Health/Check",
            Code::Unauthenticated,
        ),
        (
            "/grpc.health.v1.Health/../../spec.proto.runtime.v1.Runtime/SayHello",
            Code::Unimplemented,
        ),
    ] {
        assert_eq!(served.raw(path, b"").await.unwrap_err().code(), code, "{path}");
    }
    assert!(served.raw("/grpc.health.v1.Health/Check", b"").await.is_ok());
}

#[tokio::test]
async fn what_is_not_grpc_is_refused() {
    let served = Served::new(Options::default());
    let request = http::Request::post(SAY_HELLO).header("content-type", "text/plain");
    let request = request.body(tonic::body::Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(served.dispatch, request)
        .await
        .unwrap();
    assert_eq!(answer.status(), http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_call_given_up_counts_as_cancelled_or_as_late() {
    let served = Served::new(Options::default());
    for (timeout, code) in [("1H", "CANCELLED"), ("1n", "DEADLINE_EXCEEDED")] {
        let request = http::Request::post("/spec.proto.runtime.v1.Runtime/SubscribeConfiguration")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", timeout);
        let pending = tokio_stream::pending::<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>();
        let body = tonic::body::Body::new(http_body_util::StreamBody::new(pending));
        let request = request.body(body).unwrap();
        let answer = tower::ServiceExt::oneshot(served.dispatch.clone(), request)
            .await
            .unwrap();
        drop(answer);
        let text = served.runtime.metrics.encode().unwrap();
        assert!(
            text.contains(&format!("SubscribeConfiguration\",code=\"{code}\"}} 1")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let served = Served::new(Options::default());
    served.client().say_hello(hello("a")).await.unwrap();
    served.raw(SAY_HELLO, b"\xff\xff\xff").await.unwrap_err();
    served
        .client()
        .invoke_service(InvokeServiceRequest::default())
        .await
        .unwrap();
    let text = served.runtime.metrics.encode().unwrap();
    for line in [
        "layotto_requests_succeeded_total{method=\"/spec.proto.runtime.v1.Runtime/SayHello\"} 1",
        "layotto_requests_failed_total{method=\"/spec.proto.runtime.v1.Runtime/SayHello\",code=\"INTERNAL\"} 1",
        "layotto_requests_succeeded_total{method=\"/spec.proto.runtime.v1.Runtime/InvokeService\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
