//! The products behind a case: started where the case names them, looked at where it asks what they
//! hold.

use base64::{Engine, engine::general_purpose::STANDARD};
use layotto_testkit::{
    programs,
    server::{Server, etcd},
};
use serde_json::{Value as Json, json};

use super::{
    redis,
    zookeeper::{self, Zookeeper},
};

const ETCD: &str = "${ETCD}";

/// What the names of keys hold that upstream does not write.
const OURS: [&str; 1] = ["/layotto-tags/"];

/// The products of one case.
pub struct BackEnds {
    etcd: Option<Server>,
    redis: redis::Servers,
    zookeeper: Option<Zookeeper>,
}

/// Why a case cannot be run here: a product that it names is not there.
pub fn missing(case: &str) -> Option<String> {
    let needed = [
        (case.contains(ETCD), etcd::PROGRAM),
        (redis::is_named(case), redis::PROGRAM),
        (case.contains(zookeeper::PLACEHOLDER), zookeeper::PROGRAM),
    ];
    let mut needed = needed.into_iter().filter(|(is_named, _)| *is_named);
    needed.find_map(|(_, program)| programs::find(program).err())
}

impl BackEnds {
    /// Starts what `case` names.
    pub async fn start(case: &Json) -> Self {
        let text = case.to_string();
        let etcd = match text.contains(ETCD) {
            true => Some(etcd::start(&[]).await.unwrap()),
            false => None,
        };
        let zookeeper = match text.contains(zookeeper::PLACEHOLDER) {
            true => Some(Zookeeper::start(super::name(case)).await),
            false => None,
        };
        let redis = redis::Servers::start(&text).await;
        Self {
            etcd,
            redis,
            zookeeper,
        }
    }

    /// Where each of them is.
    pub fn placeholders(&self) -> Vec<(&'static str, String)> {
        let etcd = self.etcd.iter().map(|node| (ETCD, node.address().to_string()));
        let zookeeper = self.zookeeper.iter();
        let zookeeper = zookeeper.map(|server| (zookeeper::PLACEHOLDER, server.address()));
        etcd.chain(self.redis.placeholders()).chain(zookeeper).collect()
    }

    /// Does what a remark in a recording says was done to a product.
    pub async fn note(&mut self, remark: &str) {
        self.redis.note(remark).await;
    }

    /// How many are told by etcd of changes now; `None` without one.
    pub async fn watchers(&self) -> Option<u64> {
        let port = self.etcd.as_ref()?.address().port();
        let page = super::http::try_get(port, "/metrics").await.unwrap();
        let lines = page["body"].as_str().unwrap().lines();
        let mut counts = lines.filter_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
        Some(counts.next().unwrap().parse().unwrap())
    }

    /// Does what a step does past the sidecar; its answer.
    pub async fn command(&self, step: &Json) -> Json {
        self.redis.command(&step["redis"]).await
    }

    /// Writes what a recording says the product called `name` held.
    pub async fn fill(&self, name: &str, held: &Json) {
        if redis::is_product(name) {
            return self.redis.fill(name, held).await;
        }
        assert_eq!(name, "etcd", "no other product is filled");
        let node = self.etcd.as_ref().unwrap();
        for key in held.as_array().unwrap() {
            // The version of a key is how often it was written.
            for _ in 0..key["version"].as_u64().unwrap() {
                etcd::ctl(
                    node,
                    &[
                        "put",
                        key["key"].as_str().unwrap(),
                        key["value"].as_str().unwrap(),
                    ],
                )
                .unwrap();
            }
        }
    }

    /// What the product that `step` looks at holds now, but for what is only ours, by the names
    /// that `recorded` has.
    pub async fn dump(&self, step: &Json, recorded: &Json) -> Vec<(String, Json)> {
        let name = step["dump"].as_str().unwrap();
        let held = match (name, &self.zookeeper) {
            ("redis" | "redis x3", _) => return self.redis.dump(step, recorded).await,
            ("zookeeper", Some(server)) => server.dump().await,
            _ => self.dump_etcd(name),
        };
        vec![(name.to_owned(), held)]
    }

    fn dump_etcd(&self, name: &str) -> Json {
        assert_eq!(name, "etcd", "no other product is dumped");
        let node = self.etcd.as_ref().unwrap();
        let read = |arguments: &[&str]| -> Json {
            serde_json::from_str(&etcd::ctl(node, arguments).unwrap()).unwrap()
        };
        let text = |json: &Json| {
            let bytes = STANDARD.decode(json.as_str().unwrap_or_default()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let all = read(&["get", "", "--prefix", "-w", "json"]);
        let keys = all["kvs"].as_array().into_iter().flatten();
        let keys = keys.filter(|key| !OURS.iter().any(|ours| text(&key["key"]).contains(ours)));
        let shown = keys.map(|key| {
            let mut shown =
                json!({"key": text(&key["key"]), "value": text(&key["value"]), "version": key["version"]});
            if let Some(lease) = key["lease"].as_i64() {
                let lease = read(&["lease", "timetolive", &format!("{lease:x}"), "-w", "json"]);
                shown["lease_granted_ttl"] = lease["granted-ttl"].clone();
            }
            shown
        });
        shown.collect()
    }
}
