//! Metrics that guests define, where operators see them.

use serde_json::json;

use super::{
    clients::{Ask, get},
    guests::{Guest, build},
    plan::Plan,
};
use crate::sidecar::free_port;

#[tokio::test]
async fn metrics_of_guests_are_shown_beside_those_of_the_process() {
    let mut guest = Guest::new();
    let names = ["a.counter", "a \"gauge\"\nof two lines", "histogram"].map(|name| guest.text(name));
    let defines = names.iter().enumerate().map(|(kind, name)| {
        let id = 24 + 4 * kind;
        format!("(drop (call $define_metric (i32.const {kind}) {name} (i32.const {id})))")
    });
    let records = [
        "(drop (call $increment_metric (i32.load (i32.const 24)) (i64.const 3)))",
        "(drop (call $increment_metric (i32.load (i32.const 28)) (i64.const -2)))",
        "(drop (call $record_metric (i32.load (i32.const 32)) (i64.const 40)))",
        "(i32.const 0)",
    ];
    let body: String = defines.chain(records.map(str::to_owned)).collect();
    let guest = guest.on("proxy_on_request_headers", 3, &body).module();
    let [web, metrics, admin] = [(); 3].map(|()| free_port());
    let route = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    let plugin = json!({"f": {"name": "f", "vm_config": {"path": "f.wasm"}}});
    let sink = json!({"type": "prometheus", "config": {"port": metrics}});
    let plan = Plan::web(web, route)
        .filters(json!([{"type": "Layotto", "config": plugin}]))
        .root(json!({
            "metrics": {"sinks": [sink]},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        }));
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "f", &guest);
    let _running = plan.run_in(folder, &[]);
    for _ in 0..2 {
        assert_eq!(Ask::get("/").header("id", "f").http1(web).await.status, 200);
    }
    let page = get(metrics, "/metrics").await.text();
    for line in [
        r#"layotto_guest_counter_total{name="a.counter"} 6"#,
        r#"layotto_guest_gauge{name="a \"gauge\"\nof two lines"} -4"#,
        r#"layotto_guest_histogram_sum{name="histogram"} 80.0"#,
        r#"layotto_guest_histogram_bucket{le="25.0",name="histogram"} 0"#,
        r#"layotto_guest_histogram_bucket{le="50.0",name="histogram"} 2"#,
        r#"layotto_guest_histogram_count{name="histogram"} 2"#,
    ] {
        assert!(page.lines().any(|found| found == line), "no {line} in {page}");
    }
    let stats = get(admin, "/api/v1/stats?key=layotto_guest_counter").await.text();
    assert!(stats.contains("a.counter"), "{stats}");
}
