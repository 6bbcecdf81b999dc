//! How exchanges end that pass a guest, and how guests come and go.

use super::{
    super::host::{Host, closed},
    *,
};

/// Logs when it is told of the end.
fn ends() -> Guest {
    let mut guest = Guest::new();
    let (done, log) = (guest.text("guest: done"), guest.text("guest: log"));
    let says = |text: &str| format!("(drop (call $log (i32.const 2) {text}))");
    guest
        .on("proxy_on_done", 1, &format!("{} (i32.const 1)", says(&done)))
        .on("proxy_on_log", 1, &says(&log))
}

#[tokio::test]
async fn the_guest_is_told_of_the_end_also_where_the_client_goes() {
    let host = Host::start().await;
    let demo = Demo::run(&host.address(), &ends().module());
    let ask = Ask::get("/");
    closed(host.given_up(ask.http1(demo.web)).await).await;
    demo.running.wait_for_log("guest: done").await;
    demo.running.wait_for_log("guest: log").await;
}

#[tokio::test]
async fn another_guest_takes_over_without_a_gap() {
    let answering = answers("proxy_on_request_headers");
    let peer = Peer::start("up").await;
    let demo = Demo::run(&peer.addr().to_string(), &ends().module());
    build(demo.running.folder.path(), "other", &answering);
    let asked = async {
        let mut statuses = Vec::new();
        while statuses.last() != Some(&403) {
            statuses.push(Ask::get("/").http1(demo.web).await.status.as_u16());
        }
        statuses
    };
    let plan = demo.plan.clone().filters(json!([filter("other", &json!({}))]));
    demo.running.write(&plan);
    let statuses = asked.await;
    assert!(
        statuses.iter().all(|status| [200, 403].contains(status)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200));
}
