use std::time::Duration;

use http::HeaderValue;
use serde_json::{Value, json};

use super::*;
use crate::trace::Ended;

fn config() -> Config {
    Config {
        service_name: "shop".into(),
        reporter_endpoint: "http://127.0.0.1:9411/api/v2/spans".into(),
        recorder_host_post: "10.0.0.1:9080".into(),
        ..Config::default()
    }
}

fn head(pairs: &[(&'static str, &'static str)]) -> request::Parts {
    let mut head = http::Request::new(()).into_parts().0;
    head.uri = "/orders/7".parse().unwrap();
    for (name, value) in pairs {
        head.headers.insert(*name, HeaderValue::from_static(value));
    }
    head
}

fn ended(exchange: &Exchange, status: u16) -> Ended<'_> {
    Ended {
        status,
        grpc_status: None,
        failed: false,
        took: Duration::from_millis(5),
        exchange,
    }
}

async fn spans(batches: &mut Batches) -> Vec<Value> {
    let batch = batches.next().await.unwrap();
    let json = serde_json::to_value(batch).unwrap();
    json.as_array().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_proxied_call_is_two_spans_that_hang_together() {
    let (queue, mut batches) = queue();
    let zipkin = Zipkin::new(&config(), queue);
    let exchange = Exchange::begin("web".into(), None);
    let mut head = head(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")]);
    let span = zipkin.begin(&mut head, &exchange).unwrap();
    exchange.facts().upstream_host = Some("10.0.0.9:80".into());
    exchange.facts().response_received = Some(Duration::from_millis(3));
    span.end(&ended(&exchange, 503));
    let spans = spans(&mut batches).await;
    let [client, server] = spans.as_slice() else {
        panic!("{spans:?}")
    };
    for span in [client, server] {
        assert_eq!(span["traceId"], "80f198ee56343ba864fe8b2a57d3eff7");
        assert_eq!(span["name"], "get");
        assert_eq!(
            span["localEndpoint"],
            json!({"serviceName": "shop", "ipv4": "10.0.0.1", "port": 9080})
        );
    }
    assert_eq!(
        (&server["kind"], &client["kind"]),
        (&json!("SERVER"), &json!("CLIENT"))
    );
    assert_eq!(server["parentId"], "e457b5a2e4d86bd1");
    assert_eq!(client["parentId"], server["id"]);
    assert_eq!(client["remoteEndpoint"], json!({"ipv4": "10.0.0.9", "port": 80}));
    assert_eq!(
        (&server["duration"], &client["duration"]),
        (&json!(5000), &json!(3000))
    );
    assert_eq!(
        server["tags"],
        json!({
            "error": "503", "http.method": "GET", "http.path": "/orders/7", "http.status_code": "503"
        })
    );
    // The next hop continues the client's span.
    assert_eq!(head.headers["x-b3-spanid"], *client["id"].as_str().unwrap());
    assert!(!head.headers.contains_key("b3"));
    assert_eq!(
        exchange.facts().trace_id.as_deref(),
        Some("80f198ee56343ba864fe8b2a57d3eff7")
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_sampled_is_handed_on_but_not_recorded() {
    let (queue, mut batches) = queue();
    let zipkin = Zipkin::new(&config(), queue);
    let exchange = Exchange::begin("web".into(), None);
    let mut head = head(&[("b3", "0")]);
    assert!(zipkin.begin(&mut head, &exchange).is_none());
    assert_eq!(head.headers["x-b3-sampled"], "0");
    drop(zipkin);
    assert!(batches.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_api_has_upstreams_tags_and_a_long_trace_id() {
    let (queue, mut batches) = queue();
    let zipkin = Zipkin::new(&config(), queue);
    zipkin.serve("/a.B/C", &HeaderMap::new()).end("/a.B/C", 5);
    let spans = spans(&mut batches).await;
    assert_eq!(spans[0]["name"], "/a.B/C");
    assert_eq!(
        spans[0]["tags"],
        json!({"error": "5", "method": "/a.B/C", "result": "1"})
    );
    assert_eq!(spans[0]["traceId"].as_str().unwrap().len(), 32);
    assert!(spans[0].get("parentId").is_none());
}

#[tokio::test(start_paused = true)]
async fn spans_beyond_the_queue_are_dropped_and_counted_and_batches_are_bounded() {
    let (queue, mut batches) = queue();
    let zipkin = Zipkin::new(&config(), queue.clone());
    for _ in 0..4099 {
        zipkin.serve("m", &HeaderMap::new()).end("m", 0);
    }
    assert_eq!(queue.dropped(), 3);
    drop((zipkin, queue));
    let mut sizes = Vec::new();
    while let Some(batch) = batches.next().await {
        sizes.push(batch.len());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 4096);
    assert!(sizes.iter().all(|size| *size <= 100));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_closed_gives_out_what_it_holds() {
    let (queue, mut batches) = queue();
    let zipkin = Zipkin::new(&config(), queue.clone());
    zipkin.serve("m", &HeaderMap::new()).end("m", 0);
    // Cancelled while it waits for more.
    let waited = tokio::time::timeout(Duration::from_millis(10), batches.next()).await;
    assert!(waited.is_err());
    zipkin.serve("m", &HeaderMap::new()).end("m", 0);
    batches.close();
    zipkin.serve("m", &HeaderMap::new()).end("m", 0);
    assert_eq!(batches.next().await.unwrap().len(), 2);
    assert!(batches.next().await.is_none());
    assert_eq!(queue.dropped(), 1);
}

#[test]
fn a_config_that_cannot_be_used_names_its_key() {
    assert_eq!(config().check(), Ok(()));
    type Spoil = fn(&mut Config);
    let bad: [(&str, Spoil); 4] = [
        ("service_name", |config| config.service_name.clear()),
        ("reporter_endpoint", |config| {
            config.reporter_endpoint = "127.0.0.1:9411".into()
        }),
        ("recorder_host_post", |config| {
            config.recorder_host_post = "here".into()
        }),
        ("sample_rate", |config| config.sample_rate = 2.0),
    ];
    for (key, spoil) in bad {
        let mut config = config();
        spoil(&mut config);
        assert_eq!(config.check().unwrap_err().path, key);
    }
}

#[test]
fn endpoints_are_read_from_addresses() {
    let endpoint = |address| serde_json::to_value(Endpoint::new(None, address)).unwrap();
    assert_eq!(endpoint("[::1]:80"), json!({"ipv6": "::1", "port": 80}));
    assert_eq!(
        endpoint("db.local:80"),
        json!({"serviceName": "db.local", "port": 80})
    );
    assert_eq!(endpoint("10.0.0.1"), json!({"ipv4": "10.0.0.1"}));
}
