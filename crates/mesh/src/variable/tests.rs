use std::{net::SocketAddr, time::Duration};

use http::HeaderValue;

use super::*;
use crate::{
    connection::{Info, Local, Remote},
    exchange::Flags,
};

fn exchange() -> Exchange {
    let remote: SocketAddr = "1.2.3.4:5".parse().unwrap();
    let local: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let info = Info::numbered(Remote::Tcp(remote), Local::Tcp(local), "web", 7);
    Exchange::begin("web".into(), Some(info))
}

fn head(uri: &str, version: Version) -> Parts {
    let mut head = http::Request::new(()).into_parts().0;
    head.uri = uri.parse().unwrap();
    head.version = version;
    for (name, value) in [
        ("host", "from.header"),
        ("x-tag", "blue"),
        ("cookie", "a=1; session=\"xyz\""),
        ("content-length", "12"),
    ] {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    head.headers.append("cookie", HeaderValue::from_static("late=2"));
    head
}

fn check(head: &Parts, expected: &[(&str, Option<&str>)]) {
    let exchange = exchange();
    for (name, expected) in expected {
        assert_eq!(value(name, head, &exchange).as_deref(), *expected, "{name}");
    }
}

#[test]
fn a_head_tells_method_path_and_all() {
    check(
        &head("/a%20b/c?x=1&y=a+b%2F", Version::HTTP_11),
        &[
            ("x-mosn-method", Some("GET")),
            ("x-mosn-path", Some("/a b/c")),
            ("x-mosn-path-original", Some("/a%20b/c")),
            ("x-mosn-querystring", Some("x=1&y=a+b%2F")),
            ("x-mosn-host", Some("from.header")),
            ("x-mosn-scheme", Some("http")),
            ("x-mosn-status", None),
            ("protocol", Some("Http1")),
            ("request_header_X-Tag", Some("blue")),
            ("request_header_none", None),
            ("response_header_x-tag", None),
            ("Http1_request_method", Some("GET")),
            ("Http1_request_path", Some("/a b/c")),
            ("Http1_request_uri", Some("/a%20b/c?x=1&y=a+b%2F")),
            ("Http1_request_arg", Some("x=1&y=a+b%2F")),
            ("Http1_request_length", Some("12")),
            ("Http1_request_header_x-tag", Some("blue")),
            ("Http1_request_arg_y", Some("a b/")),
            ("Http1_request_arg_z", None),
            ("Http1_cookie_session", Some("xyz")),
            ("Http1_cookie_late", Some("2")),
            ("Http2_request_method", None),
            ("connection_id", Some("7")),
            ("downstream_remote_address", Some("1.2.3.4:5")),
            ("downstream_local_address", Some("127.0.0.1:80")),
            ("no_such_variable", None),
            ("request_header_", None),
        ],
    );
}

#[test]
fn over_http2_the_host_is_the_authority() {
    check(
        &head("https://h2.host:8443/p", Version::HTTP_2),
        &[
            ("x-mosn-host", Some("h2.host:8443")),
            ("x-mosn-scheme", Some("https")),
            ("x-mosn-querystring", None),
            ("protocol", Some("Http2")),
            ("Http2_request_path", Some("/p")),
            ("Http1_request_path", None),
            ("Http2_cookie_a", Some("1")),
        ],
    );
}

#[test]
fn a_call_from_inside_the_process_has_no_addresses() {
    let (head, exchange) = (head("/", Version::HTTP_2), Exchange::begin("web".into(), None));
    for name in [
        "connection_id",
        "downstream_remote_address",
        "downstream_local_address",
    ] {
        assert_eq!(value(name, &head, &exchange), None, "{name}");
    }
}

#[test]
fn facts_have_values_as_soon_as_they_are_known() {
    let (head, exchange) = (head("/", Version::HTTP_11), exchange());
    assert_eq!(value("upstream_cluster", &head, &exchange), None);
    {
        let mut facts = exchange.facts();
        facts.cluster = Some("c".into());
        facts.upstream_host = Some("1.1.1.1:1".into());
        facts.upstream_failure = Some("refused".into());
        facts.trace_id = Some("t".into());
        facts.upstream_connection = Some(9);
        facts.upstream_local = Some("127.0.0.1:9".parse().unwrap());
        facts.bytes_sent = 5;
        facts.request_received = Some(Duration::from_micros(1500));
    }
    for (name, expected) in [
        ("upstream_cluster", Some("c")),
        ("upstream_host", Some("1.1.1.1:1")),
        ("upstream_transport_failure_reason", Some("refused")),
        ("trace_id", Some("t")),
        ("upstream_connection_id", Some("9")),
        ("upstream_local_address", Some("127.0.0.1:9")),
        ("bytes_sent", Some("5")),
        ("bytes_received", Some("0")),
        ("request_received_duration", Some("1.5ms")),
        ("response_received_duration", None),
        ("response_code", None),
        ("request_finished_duration", None),
    ] {
        assert_eq!(value(name, &head, &exchange).as_deref(), expected, "{name}");
    }
}

#[test]
fn an_end_has_status_flags_and_durations() {
    let exchange = exchange();
    exchange.flag(Flags::NO_ROUTE);
    exchange.facts().request_received = Some(Duration::from_millis(1));
    exchange.facts().response_received = Some(Duration::from_millis(8));
    let end = End {
        status: 404,
        took: Duration::from_millis(10),
    };
    for (late, expected) in [
        (Late::ResponseCode, "404"),
        (Late::ResponseFlag, "0x100"),
        (Late::Duration, "10ms"),
        (Late::RequestFinishedDuration, "10ms"),
        (Late::ProcessTimeDuration, "3ms"),
    ] {
        assert_eq!(late.value(&exchange, Some(end)).as_deref(), Some(expected));
    }
}

#[test]
fn bytes_that_are_no_text_do_not_fail() {
    let mut head = head("/%ff%fe?a=%ff", Version::HTTP_11);
    let name: HeaderName = "x-bytes".parse().unwrap();
    head.headers
        .insert(name, HeaderValue::from_bytes(b"a\xffb").unwrap());
    check(
        &head,
        &[
            ("x-mosn-path", Some("/\u{fffd}\u{fffd}")),
            ("request_header_x-bytes", Some("a\u{fffd}b")),
            ("Http1_request_arg_a", Some("\u{fffd}")),
        ],
    );
}

#[test]
fn the_time_is_written_as_in_upstreams_logs() {
    let mut text = String::new();
    write_time(
        &mut text,
        std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_000_045),
    );
    assert_eq!(text.len(), "2006/01/02 15:04:05.000".len());
    assert!(
        text.starts_with("2023/11/1") && text.ends_with(":20.045"),
        "{text}"
    );
}

#[test]
fn a_name_can_be_read_ahead() {
    assert_eq!(
        Variable::parse("Http1_request_arg_q"),
        Some(Variable::RequestOver(1, Request::Argument("q".into())))
    );
    assert_eq!(
        Variable::parse("upstream_host"),
        Some(Variable::Late(Late::UpstreamHost))
    );
}

#[test]
fn the_scheme_of_a_request_that_does_not_say_it_is_its_connections() {
    let info = exchange().connection().cloned().unwrap();
    let peer = crate::tls::server::Peer {
        server_name: None,
        certificate: None,
        alpn: None,
    };
    let exchange = Exchange::begin("web".into(), Some(info.with(Some(peer))));
    let head = head("/", Version::HTTP_11);
    let scheme = value("x-mosn-scheme", &head, &exchange);
    assert_eq!(scheme.as_deref(), Some("https"));
}
