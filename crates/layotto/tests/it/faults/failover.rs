//! Products of several servers whose leading one is killed under fifty clients.

use std::time::Instant;

use layotto_testkit::server::{Server, etcd, redis};

use super::{process::Process, product::Promises, *};

/// How long a product may take to have another leader.
const ELECTION: Duration = Duration::from_secs(15);

/// Clients go on while `kill` ends the leader; done when `leads` says that there is another, and
/// the sidecar has found it. What the clients saw is judged but for the blocks `beside` it.
async fn fails_over(
    name: &str,
    sections: Value,
    kill: impl AsyncFnOnce(),
    mut leads: impl FnMut() -> bool,
    beside: &[&str],
) {
    let process = Process::start(sections).await;
    process.ready(200).await;
    let crowd = Crowd::start(&process.remote, &process.sections, "load", SEED);
    tokio::time::sleep(2 * CALM).await;
    let begun = Instant::now();
    kill().await;
    while !leads() {
        assert!(begun.elapsed() < ELECTION, "{name} has no leader");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let elected = begun.elapsed();
    let took = process.recovers().await;
    let until_then = process.remote.calls().count("OK");
    tokio::time::sleep(2 * CALM).await;
    let reports = crowd.end(&process.sections, &Promises::ALL).await;
    let calls = process.remote.calls();
    say(format_args!(
        "{name} fails over: another leads after {} ms, back {} ms later",
        elected.as_millis(),
        took.as_millis()
    ));
    say(format_args!("  {name}: {calls}"));
    for report in &reports {
        say(format_args!("  {name}: {}", report.clone().after(1)));
    }
    assert_eq!(calls.wrong, [""; 0], "{}", process.output());
    assert!(
        calls.count("OK") > until_then,
        "nothing goes on after the failover"
    );
    let mut judged = reports.iter().filter(|report| !beside.contains(&report.what));
    assert!(judged.all(|report| report.violations.is_empty()));
}

/// The number of the node that leads, by what the others say.
fn leader(nodes: &[Server]) -> Option<usize> {
    let told = nodes.iter().map(|node| {
        let told = etcd::ctl(node, &["endpoint", "status", "-w", "json"]).ok()?;
        let told: Value = serde_json::from_str(&told).ok()?;
        let status = &told[0]["Status"];
        Some((status["header"]["member_id"].clone(), status["leader"].clone()))
    });
    let mut told = told.enumerate();
    told.find_map(|(number, told)| told.filter(|(own, leader)| own == leader).map(|_| number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_whose_leader_is_killed() {
    if let Err(reason) = programs::find(etcd::PROGRAM) {
        return skipped("faults::failover: etcd", &reason);
    }
    let _alone = ALONE.lock().await;
    let mut nodes = etcd::start_three().await.unwrap();
    let addresses: Vec<_> = nodes.iter().map(|node| node.address().to_string()).collect();
    let names = ["state", "lock", "sequencer"];
    let sections = sections(&names, "etcd", &json!({"endpoints": addresses.join(";")}));
    let number = leader(&nodes).expect("three nodes have a leader");
    let mut leading = nodes.remove(number);
    let kill = async || leading.kill();
    let leads = || leader(&nodes).is_some() && etcd::ctl(&nodes[0], &["put", "a", "1"]).is_ok();
    fails_over("etcd", sections, kill, leads, &[]).await;
}

/// A primary and its replica, with the sentinels that watch them.
struct Watched {
    primary: Server,
    replica: Server,
    sentinels: Vec<Server>,
}

impl Watched {
    async fn start() -> Self {
        let redis::Sentinels {
            mut servers,
            sentinels,
        } = redis::start_sentinels().await.unwrap();
        Self {
            replica: servers.pop().unwrap(),
            primary: servers.pop().unwrap(),
            sentinels,
        }
    }

    /// Sections whose components ask the sentinels.
    fn sections(&self, names: &[&str]) -> Value {
        let addresses = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.address().to_string());
        let settings = json!({
            "redisHost": addresses.collect::<Vec<_>>().join(","),
            "failover": "true",
            "sentinelMasterName": redis::PRIMARY_NAME,
        });
        sections(names, "redis", &settings)
    }
}

/// Whether a sentinel calls `replica` the primary, and it takes writes.
fn took_over(replica: &Server, sentinels: &[Server]) -> bool {
    let is_named = |sentinel| redis::primary(sentinel).is_ok_and(|named| named == replica.address());
    sentinels.iter().any(is_named) && redis::cli(replica, &["set", "a", "1"]).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_whose_primary_is_killed() {
    if let Err(reason) = programs::find(redis::PROGRAM) {
        return skipped("faults::failover: redis", &reason);
    }
    let _alone = ALONE.lock().await;
    let watched = Watched::start().await;
    let sections = watched.sections(&["state", "lock", "sequencer"]);
    let Watched {
        mut primary,
        replica,
        sentinels,
    } = watched;
    let kill = async || primary.kill();
    let leads = || took_over(&replica, &sentinels);
    // A replica takes over with what it has heard of: ids and locks that it has not come again.
    // Writes of state are strong, and wait for it.
    fails_over("redis", sections, kill, leads, &["sequences", "locks"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_streams_whose_primary_is_killed_while_events_are_published() {
    if let Err(reason) = programs::find(redis::PROGRAM) {
        return skipped("faults::failover: redis streams", &reason);
    }
    let _alone = ALONE.lock().await;
    let watched = Watched::start().await;
    let sections = watched.sections(&["pub_subs"]);
    let Watched {
        mut primary,
        replica,
        sentinels,
    } = watched;
    let kill = async || {
        // What Redis answers to before its replica has it is lost with it, whoever asked. What is
        // under way now is not answered to any more.
        redis::hold_writes(&primary, &replica).await.unwrap();
        primary.kill();
    };
    let leads = || took_over(&replica, &sentinels);
    fails_over("redis streams", sections, kill, leads, &[]).await;
}
