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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_whose_primary_is_killed() {
    if let Err(reason) = programs::find(redis::PROGRAM) {
        return skipped("faults::failover: redis", &reason);
    }
    let _alone = ALONE.lock().await;
    let mut watched = redis::start_sentinels().await.unwrap();
    let replica = watched.servers.pop().unwrap();
    let mut primary = watched.servers.pop().unwrap();
    let addresses = watched
        .sentinels
        .iter()
        .map(|sentinel| sentinel.address().to_string());
    let settings = json!({
        "redisHost": addresses.collect::<Vec<_>>().join(","),
        "failover": "true",
        "sentinelMasterName": redis::PRIMARY_NAME,
    });
    let sections = sections(&["state", "lock", "sequencer"], "redis", &settings);
    let kill = async || primary.kill();
    let leads = || redis::cli(&replica, &["set", "a", "1"]).is_ok();
    // A replica takes over with what it has heard of: ids and locks that it has not come again.
    // Writes of state are strong, and wait for it.
    fails_over("redis", sections, kill, leads, &["sequences", "locks"]).await;
}
