//! Upstream's demo as a whole: Redis behind the store, a route that answers 200, functions that come
//! over HTTP, and files that change under load.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use layotto_testkit::{
    programs,
    server::redis::{self, PROGRAM},
};

use super::{admin::World, *};
use crate::{
    mesh::{clients::Http1, plan::proxy},
    sidecar::{say, skipped},
};

const ANSWER: &str = "There are 100 inventories for book1.";

/// The configuration of the demo, on free ports, with its modules in the folder.
fn demo(redis: &str, plugins: &Value, modules: &[(&str, &str)]) -> World {
    let (web, grpc) = (free_port(), free_port());
    let api = json!({
        "rpcs": {"mosn": {"config": {"channel": [{"size": 16, "protocol": "http", "listener": "wasm"}]}}},
        "state": {"state_demo": {"type": "redis", "metadata": {"redisHost": redis, "redisPassword": ""}}},
    });
    let plan = Plan::default()
        .listener(proxy("wasm", web, "function_router"))
        .listener(runtime(grpc, api))
        .routes("function_router", json!([{"direct_response": {"status": 200}}]))
        .filters(json!([{"type": "Layotto", "config": plugins}]));
    World::of(Demo { web, grpc, plan }, modules)
}

#[tokio::test]
async fn the_demo_of_upstream_works_as_it_stands() {
    if let Err(reason) = programs::find(PROGRAM) {
        return skipped("functions::demo", &reason);
    }
    let redis = redis::start(&[]).await.unwrap();
    let world = demo(&redis.address().to_string(), &Value::Null, &PAIR);
    save(world.demo.grpc, "book1", "100").await;
    let ask = async || {
        let ask = Ask::get("/?name=book1").header("id", "id_1");
        ask.http1(world.demo.web).await
    };
    for id in ["id_1", "id_2"] {
        assert_eq!(
            ask().await.status,
            if id == "id_1" { 404 } else { 500 },
            "half of it"
        );
        world.done("install", &plugin(id, json!({}))).await;
    }
    let reply = ask().await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, ANSWER.to_owned()));
    for number in [4, 1] {
        let change = json!({"name": "id_2", "instance_num": number});
        world.done("update", &change).await;
        assert_eq!(ask().await.text(), ANSWER, "{number}");
    }
    world.done("uninstall", &json!({"name": "id_2"})).await;
    assert_eq!(ask().await.status, 500);
    world.done("install", &plugin("id_2", json!({}))).await;
    assert_eq!(ask().await.text(), ANSWER);
}

#[tokio::test]
async fn a_started_sidecar_takes_functions_when_their_files_come() {
    let plugins = json!({"function1": plugin("id_1", json!({})), "function2": plugin("id_2", json!({}))});
    let world = World::of(Demo::new(&plugins), &[]);
    save(world.demo.grpc, "book1", "100").await;
    let [first, second] = PAIR;
    build(world.running.folder.path(), second.0, second.1);
    until("id_2 is there", async || {
        world.demo.ask("id_2").await.status != 404
    })
    .await;
    build(world.running.folder.path(), first.0, first.1);
    let written = Instant::now();
    let ask = Ask::get("/?name=book1").header("id", "id_1");
    until("id_1 answers", async || {
        ask.http1(world.demo.web).await.text() == ANSWER
    })
    .await;
    say(format_args!("from file to first answer: {:?}", written.elapsed()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_places_change_under_load_and_no_request_fails() {
    const CLIENTS: usize = 4;
    const RELOADS: u64 = 20;
    let patient = json!({"f": plugin("f", json!({"instance_wait": "10s"}))});
    let world = World::of(Demo::new(&patient), &[("f", &says("1"))]);
    let (ends, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (web, ends, answers) = (world.demo.web, ends.clone(), answers.clone());
            tokio::spawn(async move {
                let mut connection = Http1::connect(web).await;
                let ask = Ask::get("/").header("id", "f");
                let mut newest = 1;
                loop {
                    let last = ends.load(Relaxed);
                    let reply = connection.send(&ask).await.unwrap();
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    let version: u64 = reply.text().parse().unwrap();
                    assert!(version >= newest, "{version} after {newest}");
                    newest = version;
                    answers.fetch_add(1, Relaxed);
                    if last {
                        return newest;
                    }
                }
            })
        })
        .collect();
    for version in 2..=RELOADS {
        build(world.running.folder.path(), "f", &says(&version.to_string()));
        let places = json!({"name": "f", "instance_num": version % 8 + 1});
        world.done("update", &places).await;
        let newest = || async { world.status().await[0]["version"]["number"] == version };
        until("the file is loaded", newest).await;
    }
    ends.store(true, Relaxed);
    for client in clients {
        assert_eq!(client.await.unwrap(), RELOADS);
    }
    let status = world.status().await;
    assert_eq!(
        (&status[0]["errors"], &status[0]["running"]),
        (&json!(0), &json!(0))
    );
    say(format_args!(
        "{} requests over {RELOADS} versions, none failed",
        answers.load(Relaxed)
    ));
}
