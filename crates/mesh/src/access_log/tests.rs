use std::time::Duration;

use http::HeaderValue;

use super::*;
use crate::exchange::Flags;

const END: End = End {
    status: 503,
    took: Duration::from_millis(12),
};

fn head() -> request::Parts {
    let mut head = http::Request::new(()).into_parts().0;
    head.uri = "/orders?id=7".parse().unwrap();
    let value = HeaderValue::from_bytes(b"a\tb \"c\" \xff").unwrap();
    head.headers.insert("x-evil", value);
    head.headers
        .insert("authorization", HeaderValue::from_static("Bearer secret"));
    head.headers
        .insert("cookie", HeaderValue::from_static("session=secret"));
    head
}

fn line(format: &str) -> String {
    let format = Format::parse(format);
    let exchange = Exchange::begin("web".into(), None);
    exchange.flag(Flags::OVERFLOW);
    let mut notes = format.begin(&head(), &exchange);
    let mut response = http::Response::new(()).into_parts().0;
    response.headers.insert("server", HeaderValue::from_static("s1"));
    format.reply(&mut notes, &response);
    format.line(&notes, &exchange, END)
}

#[test]
fn a_line_mixes_text_and_values_in_the_order_of_the_format() {
    for (format, expected) in [
        (
            "%response_code% %x-mosn-method% %x-mosn-path%",
            "503 GET /orders\n",
        ),
        ("[%response_header_server%|%Http1_request_arg_id%]", "[s1|7]\n"),
        ("%response_header_none% %request_header_none%", "- -\n"),
        ("%no_such% %duration%", "- 12ms\n"),
        ("100%% of %protocol%", "100% of Http1\n"),
        ("50% off", "50% off\n"),
        ("%response_flag%%x-mosn-querystring%", "0x80id=7\n"),
        ("", "\n"),
    ] {
        assert_eq!(line(format), expected, "{format}");
    }
}

#[test]
fn variables_that_do_not_exist_are_told() {
    let format = Format::parse("%start_time% %typo% %request_header_a b%");
    assert_eq!(format.unknown(), ["typo", "request_header_a b"]);
    assert!(Format::parse(DEFAULT_FORMAT).unknown().is_empty());
}

#[test]
fn the_default_has_upstreams_columns() {
    let line = line(DEFAULT_FORMAT);
    let columns: Vec<_> = line.trim_end().split(' ').collect();
    // The time has a blank.
    assert_eq!(columns.len(), 18, "{line}");
    assert_eq!(columns[9..14], ["Http1", "503", "12ms", "0x80", "503"]);
}

#[test]
fn a_header_cannot_forge_text_around_it() {
    assert_eq!(
        line("\"%request_header_x-evil%\""),
        "\"a\\tb \\\"c\\\" \u{fffd}\"\n"
    );
}

#[test]
fn a_path_cannot_forge_a_line() {
    let format = Format::parse("%x-mosn-path% %x-mosn-querystring%");
    let exchange = Exchange::begin("web".into(), None);
    let mut head = head();
    head.uri = "/a%0a2026/01/01%20ok%1b[2J?b%0d%0ac".parse().unwrap();
    let notes = format.begin(&head, &exchange);
    assert_eq!(
        format.line(&notes, &exchange, END),
        "/a\\n2026/01/01 ok\\u{1b}[2J b%0d%0ac\n"
    );
}

#[test]
fn secrets_are_written_only_where_the_format_names_them() {
    assert!(!line(DEFAULT_FORMAT).contains("secret"));
    assert_eq!(line("%request_header_authorization%"), "Bearer secret\n");
}

#[tokio::test]
async fn a_log_without_a_path_is_called_after_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::default();
    let log = Log::open(&Config::default(), "a/b", folder.path(), &files).unwrap();
    let exchange = Exchange::begin("a/b".into(), None);
    log.end(&log.begin(&head(), &exchange), &exchange, END);
    files.flush().await;
    let text = std::fs::read_to_string(folder.path().join("a_b_access.log")).unwrap();
    assert_eq!(text.lines().count(), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_an_error_with_its_key() {
    let config = Config {
        log_path: "/proc/no/such".into(),
        ..Config::default()
    };
    let error = Log::open(&config, "web", Path::new("."), &Files::default()).unwrap_err();
    assert_eq!(error.path, "log_path");
    assert!(error.message.starts_with("/proc/no/such: "), "{error}");
}

proptest::proptest! {
    #[test]
    fn a_line_is_one_line_whatever_the_client_sends(
        format in "[a-z %]{0,20}%request_header_x-any%%Http1_cookie_c%[a-z %]{0,9}",
        value in proptest::collection::vec(0x20_u8..=0xff, 0..40),
        path in "/[a-z%0-9]{0,20}",
    ) {
        let format = Format::parse(&format);
        let exchange = Exchange::begin("web".into(), None);
        let mut head = head();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            head.headers.insert("x-any", value.clone());
            head.headers.insert("cookie", value);
        }
        if let Ok(uri) = path.parse() {
            head.uri = uri;
        }
        let line = format.line(&format.begin(&head, &exchange), &exchange, END);
        let controls = line.chars().filter(|character| character.is_control());
        proptest::prop_assert_eq!(controls.collect::<String>(), "\n");
    }
}
