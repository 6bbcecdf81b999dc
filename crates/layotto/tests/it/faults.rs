//! Products that go away, hang, or lose connections under fifty clients: callers see regular
//! answers, UNAVAILABLE or DEADLINE_EXCEEDED, each in time; what was promised still holds when it
//! is over; the sidecar is back at once and keeps nothing of it.

mod blocks;
mod crowd;
mod failover;
mod fault;
mod process;
mod product;
mod products;
mod remote;
mod rig;

use std::{iter, sync::Arc, time::Duration};

use layotto_testkit::{
    fault_proxy::{Door, Faults},
    programs,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use self::{
    blocks::STORE,
    crowd::Crowd,
    fault::Fault,
    product::{Product, Promises},
    remote::Remote,
    rig::Rig,
};
use crate::sidecar::{Sidecar, config, free_port, say, skipped};

/// What all that happens at random follows from.
const SEED: u64 = 5;
/// How long clients go on before the first fault and after each.
const CALM: Duration = Duration::from_millis(200);
/// A client of a product tries no more often than this to connect again.
const TRIES_PER_SECOND: u64 = 10;

/// Scenarios measure times: one after another.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Sections whose components are all of one type with one set of settings.
fn sections(names: &[&str], type_name: &str, metadata: &Value) -> Value {
    let component = json!({"type": type_name, "metadata": metadata});
    let mut sections = json!({"app": {"app_id": "faults"}});
    for name in names {
        sections[*name] = json!({STORE: component});
    }
    sections
}

/// Waits for the turn; nothing where the product is not there, which is said.
async fn alone(product: &Product, what: &str) -> Option<MutexGuard<'static, ()>> {
    match programs::find(product.program) {
        Ok(_) => Some(ALONE.lock().await),
        Err(reason) => {
            skipped(format_args!("faults::{}: {what}", product.name), &reason);
            None
        }
    }
}

/// Clients go on while the faults happen one after another, each for its time.
async fn scenario(rig: &mut Rig, what: &str, faults: &[(Fault, Duration)]) {
    let product = rig.product;
    // What a client of the product opens once and keeps.
    let warm = Crowd::start(&rig.process.remote, &rig.process.sections, "warm", SEED);
    tokio::time::sleep(CALM).await;
    warm.end(&rig.process.sections, &product.promises).await;
    // What it makes when it loses a connection for the first time, and keeps, too.
    rig.proxy.reset();
    rig.process.recovers().await;
    let before = rig.settled().await;

    let mut random = fastrand::Rng::with_seed(SEED);
    rig.process.remote.forget();
    let crowd = Crowd::start(&rig.process.remote, &rig.process.sections, "load", SEED);
    let mut recoveries = Vec::new();
    for (fault, span) in faults {
        tokio::time::sleep(CALM).await;
        fault.happen(rig, *span, &mut random).await;
        let took = rig.process.recovers().await;
        recoveries.push(format!("{fault:?} {} ms", took.as_millis()));
    }
    tokio::time::sleep(CALM).await;
    let reports = crowd.end(&rig.process.sections, &product.promises).await;
    let (calls, faults) = (rig.process.remote.calls(), faults.len() as u64);
    say(format_args!(
        "{} {what}: back after {}",
        product.name,
        recoveries.join(", ")
    ));
    say(format_args!("  {}: {calls}", product.name));
    for report in &reports {
        say(format_args!(
            "  {}: {}",
            product.name,
            report.clone().after(faults)
        ));
    }
    assert_eq!(calls.wrong, [""; 0], "{}", rig.process.output());
    assert!(reports.iter().all(|report| report.violations.is_empty()));
    rig.shrinks_to(before).await;
}

/// The sidecar starts without its product, says so, and serves as soon as it comes.
async fn away_at_start(product: &'static Product) -> Rig {
    let rig = Rig::start(product, Door::Shut).await;
    say(format_args!(
        "{} away at start: listens after {:?}",
        product.name, rig.process.started
    ));
    assert_eq!(rig.process.readiness().await.0, 503);
    let crowd = Crowd::start(&rig.process.remote, &rig.process.sections, "away", SEED);
    tokio::time::sleep(2 * CALM).await;
    let calls = rig.process.remote.calls();
    assert_eq!(calls.count("OK"), 0, "{calls}");
    assert!(calls.count("UNAVAILABLE") > 0, "{calls}");

    // However many callers wait, few connections are tried.
    rig.proxy.set(Faults::door(Door::Slams)).await;
    let (tried, span) = (rig.proxy.counts().turned_away, Duration::from_secs(1));
    tokio::time::sleep(span).await;
    let tries = rig.proxy.counts().turned_away - tried;
    assert!(
        tries <= TRIES_PER_SECOND * (span.as_secs() + 1),
        "{tries} in {span:?}"
    );

    rig.heal().await;
    let took = rig.process.recovers().await;
    rig.process.ready(200).await;
    tokio::time::sleep(CALM).await;
    let reports = crowd.end(&rig.process.sections, &product.promises).await;
    let calls = rig.process.remote.calls();
    say(format_args!(
        "  {}: {tries} tries in {span:?}, back after {} ms; {calls}",
        product.name,
        took.as_millis()
    ));
    for report in &reports {
        say(format_args!("  {}: {report}", product.name));
    }
    assert_eq!(calls.wrong, [""; 0], "{}", rig.process.output());
    assert!(reports.iter().all(|report| report.violations.is_empty()));
    rig
}

/// A kill, a hang and every fault of the network, for a short time each.
fn each_once() -> Vec<(Fault, Duration)> {
    let span = |fault| match fault {
        // Longer than a call may take.
        Fault::Blackhole | Fault::Frozen => Duration::from_millis(1200),
        _ => Duration::from_millis(400),
    };
    let all = iter::once(Fault::Killed).chain(Fault::NETWORK);
    all.map(|fault| (fault, span(fault))).collect()
}

/// So many faults at random, one after another.
fn random(count: usize) -> Vec<(Fault, Duration)> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let choose = |_| {
        let fault = match random.usize(0..=Fault::NETWORK.len()) {
            0 => Fault::Killed,
            number => Fault::NETWORK[number - 1],
        };
        (fault, Duration::from_millis(random.u64(100..4000)))
    };
    (0..count).map(choose).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_of_the_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let names = ["lock", "sequencer", "state", "pub_subs"];
    let sections = sections(&names, "embedded", &json!({"durability": "os"}));
    let mut process = Sidecar::with_config(folder.path(), &config(port, free_port(), &sections), &[]);
    assert!(process.wait_for_port(port), "{}", process.output());
    let remote = Arc::new(Remote::connect(port, 50).await);
    let crowd = Crowd::start(&remote, &sections, "load", SEED);
    tokio::time::sleep(2 * CALM).await;
    for report in crowd.end(&sections, &Promises::ALL).await {
        say(format_args!("embedded: {report}"));
        assert!(report.violations.is_empty());
    }
    let calls = remote.calls();
    assert_eq!(calls.wrong, [""; 0]);
    assert_eq!(
        calls.count("UNAVAILABLE") + calls.count("DEADLINE_EXCEEDED"),
        0,
        "{calls}"
    );
}
