use serde_json::json;

use super::*;
use crate::filter::testing::{grpc, request_from, run, tcp};

fn filter(config: Value) -> Arc<dyn Filter> {
    build(&config, &Context::default()).unwrap()
}

async fn admits(filter: &Arc<dyn Filter>, remote: Remote, headers: &[(&'static str, &str)]) -> bool {
    let mut request = request_from(remote, "/");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    match run(&**filter, request).await.status {
        200 => true,
        403 => false,
        status => panic!("answered {status}"),
    }
}

#[tokio::test]
async fn the_first_list_that_holds_the_address_decides() {
    let filter = filter(json!({"default_action": "allow", "ips": [
        {"action": "allow", "addrs": ["10.1.0.1"]},
        {"action": "deny", "addrs": ["10.1.0.0/16", "fd00::/8"]},
        {"action": "allow", "addrs": ["10.1.0.2"]},
    ]}));
    for (address, expected) in [
        ("10.1.0.1:1", true),
        ("10.1.0.2:1", false),
        ("10.2.0.1:1", true),
        ("[fd12::1]:1", false),
        ("[fe80::1]:1", true),
    ] {
        assert_eq!(admits(&filter, tcp(address), &[]).await, expected, "{address}");
    }
}

#[tokio::test]
async fn who_is_in_no_list_is_denied_unless_told_otherwise() {
    assert!(!admits(&filter(Value::Null), tcp("10.0.0.1:1"), &[]).await);
    assert!(
        admits(
            &filter(json!({"default_action": "allow"})),
            tcp("10.0.0.1:1"),
            &[]
        )
        .await
    );
}

#[tokio::test]
async fn mapped_addresses_are_the_ipv4_addresses_they_hold() {
    for addrs in ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1"] {
        let filter = filter(json!({"ips": [{"action": "allow", "addrs": [addrs]}]}));
        assert!(admits(&filter, tcp("[::ffff:10.0.0.1]:1"), &[]).await, "{addrs}");
        assert!(admits(&filter, tcp("10.0.0.1:1"), &[]).await, "{addrs}");
        assert!(!admits(&filter, tcp("11.0.0.1:1"), &[]).await, "{addrs}");
    }
}

// deviation: D059
#[tokio::test]
async fn a_strangers_header_is_not_believed() {
    let config = json!({"header": "x-forwarded-for", "ips": [{"action": "allow", "addrs": ["10.0.0.1"]}]});
    let filter = filter(config);
    let header = [("x-forwarded-for", "10.0.0.1")];
    assert!(!admits(&filter, tcp("203.0.113.5:1"), &header).await);
    assert!(admits(&filter, tcp("127.0.0.1:1"), &header).await);
    assert!(admits(&filter, tcp("10.0.0.1:1"), &[("x-forwarded-for", "203.0.113.5")]).await);
}

#[tokio::test]
async fn the_client_is_who_the_last_trusted_proxy_saw() {
    let filter = filter(
        json!({"header": "x-forwarded-for", "trusted_proxies": ["192.168.0.0/24"],
        "ips": [{"action": "allow", "addrs": ["10.0.0.0/8"]}]}),
    );
    let proxy = tcp("192.168.0.1:1");
    for (values, expected) in [
        (&["10.0.0.1"] as &[_], true),
        (&["10.0.0.1, 203.0.113.5"], false),
        (&["10.0.0.1", "203.0.113.5"], false),
        (&["nonsense, 10.0.0.1, 192.168.0.7"], true),
        (&["192.168.0.7"], false),
    ] {
        let headers: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
        assert_eq!(admits(&filter, proxy, &headers).await, expected, "{values:?}");
    }
    assert!(!admits(&filter, tcp("127.0.0.1:1"), &[("x-forwarded-for", "10.0.0.1")]).await);
}

// deviation: D059
#[tokio::test]
async fn an_address_that_cannot_be_told_is_denied_where_anybody_is() {
    let with = |default: &str, action: &str| {
        filter(json!({"default_action": default, "header": "x-real-ip",
            "ips": [{"action": action, "addrs": ["10.0.0.0/8"]}]}))
    };
    let nonsense = [("x-real-ip", "nonsense")];
    let local = tcp("127.0.0.1:1");
    assert!(!admits(&with("deny", "allow"), local, &nonsense).await);
    assert!(!admits(&with("allow", "deny"), local, &nonsense).await);
    assert!(admits(&with("allow", "allow"), local, &nonsense).await);
}

#[tokio::test]
async fn processes_of_this_machine_are_loopback() {
    let filter = filter(json!({"ips": [{"action": "allow", "addrs": ["127.0.0.0/8"]}]}));
    assert!(admits(&filter, Remote::Unix { uid: 1, pid: None }, &[]).await);
    assert!(admits(&filter, tcp("127.0.0.1:1"), &[]).await);
    let mut inside = grpc("/a.B/C");
    inside
        .extensions_mut()
        .insert(Exchange::begin("test".into(), None));
    assert_eq!(run(&*filter, inside).await.status, 200);
}

#[tokio::test]
async fn grpc_callers_get_permission_denied() {
    let filter = filter(Value::Null);
    let outcome = run(&*filter, grpc("/a.B/C")).await;
    assert_eq!(outcome.grpc(), Some(("7", TEXT)));
}

// deviation: D047
#[test]
fn a_bad_configuration_builds_nothing() {
    for (config, error) in [
        (
            json!({"default_action": "block"}),
            "default_action: found \"block\", expected \"allow\" or \"deny\"",
        ),
        (
            json!({"ips": [{"addrs": ["10.0.0.1"]}]}),
            "ips[0].action: found \"\", expected \"allow\" or \"deny\"",
        ),
        (
            json!({"ips": [{"action": "deny", "addrs": ["10.0.0.1", "10.0.0.0/33"]}]}),
            "ips[0].addrs[1]: found \"10.0.0.0/33\", expected an address or a network such as \"10.0.0.0/8\"",
        ),
        (
            json!({"header": "a b"}),
            "header: found \"a b\", expected the name of a header",
        ),
    ] {
        let found = build(&config, &Context::default()).err().unwrap();
        assert_eq!(found.to_string(), error);
    }
}
