//! A changed configuration: what changes, what stays, and what a broken file does.

use std::fs;

use layotto_proto::runtime::v1::SayHelloRequest;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    clients::{Ask, Http1, Http2, get},
    peer::Peer,
    plan::{Plan, Running, proxy, replace, runtime, to, until, until_reply},
};
use crate::{
    lifecycle::client,
    sidecar::{Sidecar, free_port},
};

async fn peers() -> [Peer; 2] {
    [Peer::start("a").await, Peer::start("b").await]
}

/// A proxy on `port` that sends everything to the cluster `name` over `peer`.
fn to_one(port: u16, name: &str, peer: &Peer) -> Plan {
    Plan::web(port, json!([to("/", name, json!({}))])).cluster(name, [peer], json!({}))
}

#[tokio::test]
async fn a_changed_file_changes_routes_and_clusters_and_connections_stay() {
    let [a, b] = peers().await;
    let port = free_port();
    let running = to_one(port, "one", &a).run();
    let mut old1 = Http1::connect(port).await;
    let old2 = Http2::connect(port).await;
    assert_eq!(old1.send(&Ask::get("/")).await.unwrap().peer(), "a");
    assert_eq!(old2.send(&Ask::get("/")).await.unwrap().peer(), "a");
    // Another cluster of another name behind another route.
    running.apply(&to_one(port, "two", &b)).await;
    assert_eq!(old1.send(&Ask::get("/")).await.unwrap().peer(), "b");
    assert_eq!(old2.send(&Ask::get("/")).await.unwrap().peer(), "b");
    assert_eq!(get(port, "/").await.peer(), "b");
    // The same cluster with another host.
    running.apply(&to_one(port, "two", &a)).await;
    assert_eq!(old2.send(&Ask::get("/")).await.unwrap().peer(), "a");
}

#[tokio::test]
async fn a_signal_applies_the_file_too() {
    let [a, b] = peers().await;
    let port = free_port();
    let running = to_one(port, "one", &a).run();
    assert_eq!(running.logged("configuration applied"), 0);
    running.process.signal(Signal::HUP);
    running.wait_for_log("configuration applied").await;
    assert_eq!(get(port, "/").await.peer(), "a");
    running.write(&to_one(port, "one", &b));
    running.process.signal(Signal::HUP);
    until_reply("b answers", || get(port, "/"), |reply| reply.peer() == "b").await;
}

#[tokio::test]
async fn listeners_come_and_go_and_the_others_stay() {
    let [a, _] = peers().await;
    let (port, other) = (free_port(), free_port());
    let one = to_one(port, "one", &a);
    let both = one.clone().listener(proxy("other", other, "routes"));
    let running = one.run();
    let stays = Http2::connect(port).await;
    assert_eq!(stays.send(&Ask::get("/")).await.unwrap().peer(), "a");
    running.apply(&both).await;
    assert!(
        running.process.output().contains("added=[\"other\"]"),
        "{}",
        running.process.output()
    );
    assert_eq!(get(other, "/").await.peer(), "a");
    let mut ends = Http1::connect(other).await;
    assert_eq!(ends.send(&Ask::get("/")).await.unwrap().peer(), "a");
    running.apply(&one).await;
    assert!(
        running.process.output().contains("removed=[\"other\"]"),
        "{}",
        running.process.output()
    );
    until("the port is closed", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", other))
            .await
            .is_err()
    })
    .await;
    let again = ends.send(&Ask::get("/")).await;
    assert!(again.is_err(), "its idle connection ended: {again:?}");
    assert_eq!(stays.send(&Ask::get("/")).await.unwrap().peer(), "a");
    // And comes again.
    running.apply(&both).await;
    assert_eq!(get(other, "/").await.peer(), "a");
}

#[tokio::test]
async fn a_listener_that_moves_is_served_at_its_new_address() {
    let [a, _] = peers().await;
    let (port, new) = (free_port(), free_port());
    let running = to_one(port, "one", &a).run();
    running.apply(&to_one(new, "one", &a)).await;
    assert_eq!(get(new, "/").await.peer(), "a");
    until("the old address is closed", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_the_log_names_file_and_line() {
    let [a, b] = peers().await;
    let port = free_port();
    let running = to_one(port, "one", &a).run();
    let good = serde_json::to_string_pretty(&to_one(port, "one", &b).file()).unwrap();
    let line_of = |text: &str, needle: &str| text.lines().position(|line| line.contains(needle)).unwrap() + 1;
    let syntax = good.replacen("\"prefix\": \"/\"", "\"prefix\" \"/\"", 1);
    let wrong_type = good.replacen("\"bind_port\": true", "\"bind_port\": \"maybe\"", 1);
    let bad_regex = good.replacen("\"prefix\": \"/\"", "\"regex\": \"(\"", 1);
    for (name, text, needle) in [
        ("syntax", &syntax, "\"prefix\" \"/\""),
        ("type", &wrong_type, "\"bind_port\": \"maybe\""),
        ("regex", &bad_regex, "\"regex\": \"(\""),
    ] {
        let before = running.logged("nothing changes");
        replace(&running.file(), text);
        until(name, async || running.logged("nothing changes") > before).await;
        let place = format!("layotto-config.json:{}", line_of(text, needle));
        let output = running.process.output();
        assert!(output.contains(&place), "{name}: {place}: {output}");
        assert_eq!(get(port, "/").await.peer(), "a", "{name}");
    }
    fs::remove_file(running.file()).unwrap();
    let before = running.logged("nothing changes");
    running.process.signal(Signal::HUP);
    until("a missing file", async || {
        running.logged("nothing changes") > before
    })
    .await;
    assert_eq!(get(port, "/").await.peer(), "a");
    replace(&running.file(), &good);
    until_reply(
        "the repaired file applies",
        || get(port, "/"),
        |reply| reply.peer() == "b",
    )
    .await;
}

#[tokio::test]
async fn a_port_that_is_taken_changes_nothing_at_all() {
    let [a, b] = peers().await;
    let port = free_port();
    let running = to_one(port, "one", &a).run();
    // A service listens there.
    let taken = b.addr().port();
    running.write(&to_one(port, "one", &b).listener(proxy("other", taken, "routes")));
    running.wait_for_log("nothing changes").await;
    assert_eq!(get(port, "/").await.peer(), "a");
}

#[tokio::test]
async fn a_request_under_way_ends_with_what_it_began_with() {
    let [a, b] = peers().await;
    let port = free_port();
    let running = to_one(port, "one", &a).run();
    let slow = |milliseconds: u32| Ask::get("/").header("x-do", &format!("slow={milliseconds}"));
    let (http1, http2) = (slow(4000), slow(4000));
    let under_way = tokio::spawn(async move { tokio::join!(http1.http1(port), http2.http2(port)) });
    until("they are under way", async || a.requests() == 2).await;
    running.apply(&to_one(port, "two", &b)).await;
    assert_eq!(get(port, "/").await.peer(), "b");
    assert!(!under_way.is_finished());
    let (http1, http2) = under_way.await.unwrap();
    assert_eq!((http1.peer().as_str(), http2.peer().as_str()), ("a", "a"));
}

#[tokio::test]
async fn a_request_under_way_ends_when_its_listener_is_removed() {
    let [a, _] = peers().await;
    let (port, other) = (free_port(), free_port());
    let one = to_one(port, "one", &a);
    let running = one.clone().listener(proxy("other", other, "routes")).run();
    let slow = Ask::get("/").header("x-do", "slow=3000");
    let under_way = tokio::spawn(async move { tokio::join!(slow.http1(other), slow.http2(other)) });
    until("they are under way", async || a.requests() == 2).await;
    running.apply(&one).await;
    let (http1, http2) = under_way.await.unwrap();
    assert_eq!((http1.status.as_u16(), http2.status.as_u16()), (200, 200));
}

#[tokio::test]
async fn counts_of_flow_control_survive_a_change_of_something_else() {
    let [a, b] = peers().await;
    let (port, grpc) = (free_port(), free_port());
    let sections = json!({"hellos": {"helloworld": {"type": "helloworld", "hello": "greeting"}}});
    let hello = "/spec.proto.runtime.v1.Runtime/SayHello";
    let filter = |threshold: u32| -> Value {
        let rule = |resource: &str| json!({"resource": resource, "threshold": threshold, "statIntervalInMs": 60_000});
        json!([{"type": "flowControlFilter", "config": {
            "global_switch": true, "rules": [rule("/limited"), rule(hello)]}}])
    };
    let plan = |peer: &Peer, threshold: u32| {
        let mut plan = to_one(port, "one", peer).listener(runtime(grpc, sections.clone()));
        for listener in &mut plan.listeners {
            listener["stream_filters"] = filter(threshold);
        }
        plan
    };
    let running = plan(&a, 2).run();
    let greets = async || {
        let request = SayHelloRequest {
            service_name: "helloworld".into(),
            ..Default::default()
        };
        client(grpc).await.say_hello(request).await.is_ok()
    };
    for _ in 0..2 {
        assert_eq!(get(port, "/limited").await.status, 200);
        assert!(greets().await);
    }
    running.apply(&plan(&b, 2)).await;
    assert_eq!(get(port, "/free").await.peer(), "b");
    assert_eq!(get(port, "/limited").await.status, 509);
    assert!(!greets().await);
    running.apply(&plan(&b, 5)).await;
    assert_eq!(get(port, "/limited").await.status, 200, "other rules count anew");
    assert!(greets().await);
}

#[tokio::test]
async fn what_a_running_process_cannot_change_is_said() {
    let [a, _] = peers().await;
    let (port, grpc) = (free_port(), free_port());
    let sections = |hello: &str| json!({"hellos": {"helloworld": {"type": "helloworld", "hello": hello}}});
    let plan = |hello: &str| to_one(port, "one", &a).listener(runtime(grpc, sections(hello)));
    let running = plan("one").run();
    running.apply(&plan("two")).await;
    running.wait_for_log("take effect at the next start").await;
}

#[tokio::test]
async fn hosts_of_a_folder_of_routes_and_of_clusters_are_followed() {
    let [a, b] = peers().await;
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let (routes, clusters) = (folder.path().join("routes"), folder.path().join("clusters"));
    fs::create_dir(&routes).unwrap();
    fs::create_dir(&clusters).unwrap();
    let host = |name: &str| json!({"name": "all", "domains": ["*"], "routers": [to("/", name, json!({}))]});
    let cluster =
        |name: &str, peer: &Peer| json!({"name": name, "hosts": [{"address": peer.addr().to_string()}]});
    replace(&routes.join("all.json"), &host("one").to_string());
    replace(&clusters.join("one.json"), &cluster("one", &a).to_string());
    let mut plan = Plan::default().listener(proxy("web", port, "routes"));
    plan.routers = vec![json!({"router_config_name": "routes", "router_configs": routes})];
    plan.more = json!({"cluster_manager": {"clusters_configs": clusters}});
    let running: Running = plan.run_in(folder, &[]);
    assert_eq!(get(port, "/").await.peer(), "a");
    replace(&clusters.join("two.json"), &cluster("two", &b).to_string());
    running.wait_for_log("configuration applied").await;
    replace(&routes.join("all.json"), &host("two").to_string());
    until_reply("the new route", || get(port, "/"), |reply| reply.peer() == "b").await;
}

#[tokio::test]
async fn folders_that_are_not_in_the_working_directory_are_beside_the_file() {
    let [a, _] = peers().await;
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let beside = folder.path().join("configs");
    for name in ["routes", "clusters"] {
        fs::create_dir_all(beside.join(name)).unwrap();
    }
    let host = json!({"name": "all", "domains": ["*"], "routers": [to("/", "one", json!({}))]});
    fs::write(beside.join("routes/all.json"), host.to_string()).unwrap();
    let cluster = json!({"name": "one", "hosts": [{"address": a.addr().to_string()}]});
    fs::write(beside.join("clusters/one.json"), cluster.to_string()).unwrap();
    let mut plan = Plan::default().listener(proxy("web", port, "routes"));
    plan.routers = vec![json!({"router_config_name": "routes", "router_configs": "routes"})];
    plan.more = json!({"cluster_manager": {"clusters_configs": "clusters"}});
    let file = beside.join("layotto.json");
    fs::write(&file, plan.file().to_string()).unwrap();
    let mut process = Sidecar::start(folder.path(), ["start", "-c", file.to_str().unwrap()], &[]);
    assert!(process.wait_for_port(port), "{}", process.output());
    assert_eq!(get(port, "/").await.peer(), "a");
    for name in ["routes", "clusters"] {
        let found = beside.join(name).display().to_string();
        assert!(process.output().contains(&found), "{}", process.output());
    }
}

#[tokio::test]
async fn no_request_fails_while_the_configuration_changes_again_and_again() {
    let [a, b] = peers().await;
    let port = free_port();
    let running = to_one(port, "one", &a).run();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let done = std::sync::Arc::clone(&done);
            tokio::spawn(async move {
                let mut http1 = Http1::connect(port).await;
                let http2 = Http2::connect(port).await;
                let mut count = 0_u32;
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let ask = Ask::new("POST", "/").body("body");
                    let reply = match number % 2 {
                        0 => http1.send(&ask).await,
                        _ => http2.send(&ask).await,
                    };
                    assert_eq!(reply.unwrap().status, 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    for _ in 0..3 {
        for (name, peer) in [("two", &b), ("one", &a)] {
            running.apply(&to_one(port, name, peer)).await;
        }
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    for client in clients {
        assert!(client.await.unwrap() > 10);
    }
    assert!(a.requests() > 0 && b.requests() > 0);
}

#[tokio::test]
async fn a_proxied_request_under_way_ends_well_when_the_process_is_told_to_end() {
    let [a, _] = peers().await;
    let port = free_port();
    let mut running = to_one(port, "one", &a).run();
    let slow = Ask::get("/").header("x-do", "slow=1500");
    let under_way = tokio::spawn(async move { tokio::join!(slow.http1(port), slow.http2(port)) });
    until("they are under way", async || a.requests() == 2).await;
    running.process.signal(Signal::TERM);
    let (http1, http2) = under_way.await.unwrap();
    assert_eq!((http1.status.as_u16(), http2.status.as_u16()), (200, 200));
    assert_eq!(running.process.wait_for_end().code(), Some(0));
}

#[tokio::test]
async fn a_change_that_comes_while_another_is_applied_is_not_missed() {
    let [a, b] = peers().await;
    let port = free_port();
    let running = to_one(port, "one", &a).run();
    for _ in 0..5 {
        for (name, peer) in [("b", &b), ("a", &a)] {
            running.process.signal(Signal::HUP);
            running.write(&to_one(port, "one", peer));
            until_reply("the change", || get(port, "/"), |reply| reply.peer() == name).await;
        }
    }
}
