//! The products, and the scenarios of each.

use futures::FutureExt;
use layotto_testkit::server::{etcd, kafka, postgres, redis, zookeeper};
use serde_json::json;

use super::{product::Product, sections, *};

static ETCD: Product = Product {
    name: "etcd",
    program: etcd::PROGRAM,
    start: |_| etcd::start(&[]).boxed(),
    sections: |address| {
        let names = ["state", "lock", "sequencer"];
        sections(&names, "etcd", &json!({"endpoints": address.to_string()}))
    },
    answers: |server| etcd::ctl(server, &["get", "a"]).is_ok(),
    pool: 1,
    promises: Promises::ALL,
};

static POSTGRESQL: Product = Product {
    name: "postgresql",
    program: postgres::PROGRAM,
    start: |_| postgres::start(&[]).boxed(),
    sections: |address| {
        let names = ["state", "lock", "sequencer"];
        let url = format!("postgres://postgres@{address}/postgres");
        sections(&names, "postgresql", &json!({"connectionString": url}))
    },
    answers: |server| postgres::psql(server, "select 1").is_ok(),
    pool: 10,
    promises: Promises::ALL,
};

static REDIS: Product = Product {
    name: "redis",
    program: redis::PROGRAM,
    start: |_| redis::start_durable().boxed(),
    sections: |address| {
        let names = ["state", "lock", "sequencer"];
        sections(&names, "redis", &json!({"redisHost": address.to_string()}))
    },
    answers: |server| redis::cli(server, &["get", "a"]).is_ok(),
    // All but one are for strong writes, of which each has its own.
    pool: 17,
    promises: Promises::ALL,
};

static REDIS_STREAMS: Product = Product {
    name: "redis streams",
    sections: |address| sections(&["pub_subs"], "redis", &json!({"redisHost": address.to_string()})),
    // One for calls, and one to read for the group.
    program: REDIS.program,
    start: REDIS.start,
    answers: REDIS.answers,
    pool: 2,
    promises: Promises::ALL,
};

static ZOOKEEPER: Product = Product {
    name: "zookeeper",
    program: zookeeper::PROGRAM,
    start: |_| zookeeper::start().boxed(),
    sections: |address| {
        let hosts = address.to_string();
        let mut all = sections(
            &["lock", "sequencer"],
            "zookeeper",
            &json!({"zookeeperHosts": hosts}),
        );
        let state = json!({"servers": hosts, "sessionTimeout": "5s"});
        all["state"] = sections(&["state"], "zookeeper", &state)["state"].take();
        all
    },
    answers: zookeeper::serves,
    pool: 1,
    promises: Promises::ALL,
};

static KAFKA: Product = Product {
    name: "kafka",
    program: kafka::PROGRAM,
    start: |front| kafka::start_behind(front, 2).boxed(),
    sections: |address| {
        // What is published before the group's first subscription counts, too.
        let settings = json!({"brokers": address.to_string(), "initialOffset": "oldest"});
        sections(&["pub_subs"], "kafka", &settings)
    },
    answers: |server| kafka::leads(server, "probe"),
    pool: 2,
    promises: Promises::ALL,
};

/// The scenarios of each product; the long ones are part of the soak.
macro_rules! scenarios {
    ($($module:ident: $product:ident),* $(,)?) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn is_away_at_first_and_fails_in_many_ways() {
                let Some(_alone) = alone(&$product, "faults").await else { return };
                let mut rig = away_at_start(&$product).await;
                scenario(&mut rig, "faults", &each_once()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "soak: three outages of ten seconds"]
            async fn is_killed_for_long() {
                let Some(_alone) = alone(&$product, "killed for long").await else { return };
                let mut rig = Rig::start(&$product, Door::Open).await;
                let outages = [(Fault::Killed, Duration::from_secs(10)); 3];
                scenario(&mut rig, "killed for long", &outages).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "soak: sixty faults at random"]
            async fn has_many_faults() {
                let Some(_alone) = alone(&$product, "many faults").await else { return };
                let mut rig = Rig::start(&$product, Door::Open).await;
                scenario(&mut rig, "many faults", &random(60)).await;
            }
        }
    )*};
}

scenarios! {
    in_etcd: ETCD,
    in_kafka: KAFKA,
    in_postgresql: POSTGRESQL,
    in_redis: REDIS,
    in_redis_streams: REDIS_STREAMS,
    in_zookeeper: ZOOKEEPER,
}
