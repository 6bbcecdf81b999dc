//! Clients that break the rules: they get little, and others do not notice.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use layotto_peers::{
    attack::Attack,
    load::{
        Round,
        grpc::{self, message},
        http1,
    },
    origin::Origin,
    proxy::{Kind, Plan, Protocol, Proxy},
};
use tokio::time::sleep;

use crate::runner::{Case, Ignored, Lab};

/// Memory that an attack may cost.
const MOST: u64 = 10 << 20;
/// How much longer another client may wait than beside a busy client that keeps the rules.
const TIMES: u32 = 2;
/// Below this, a wait says more of the machine than of the proxy.
const GRAIN: Duration = Duration::from_millis(20);
/// The same for a build that is not optimised: a buffer full of small frames takes it long.
const DEBUG_GRAIN: Duration = Duration::from_millis(500);
const SAMPLE: Duration = Duration::from_millis(20);

pub fn cases() -> Vec<Case> {
    let case = |attack: Attack| {
        let name = format!("abuse::{}", attack.name());
        Case::long(name, &[], move |lab| lab.measure(move || run(lab, attack)))
    };
    Attack::ALL.into_iter().map(case).collect()
}

async fn run(lab: Lab, attack: Attack) -> Result<()> {
    let protocol = match attack {
        Attack::Slowloris => Protocol::Http1,
        _ => Protocol::Http2,
    };
    if lab.kind == Kind::Copy {
        return Err(Ignored("it knows nothing of HTTP".into()).into());
    }
    let origin = Origin::start().await?;
    let plan = Plan {
        front: protocol,
        ..Plan::of(protocol, origin.address)
    };
    let proxy = Proxy::start(lab.kind, &plan).await?;
    let time = lab.seconds(2, 30);
    // An honest client that keeps the proxy busy, so that both measurements share the machine
    // with one; it also brings memory to its working size.
    let busy = http_load(&proxy, protocol, 16, time);
    let (calm, _) = tokio::join!(bystander(&proxy, protocol, time), busy);
    ensure!(calm.failed == 0, "before: {:?}", calm.first_failure);
    let before = proxy.process.resident()?;
    let peak = AtomicU64::new(before);
    let attacked = async {
        tokio::select! {
            outcome = attack.run(proxy.address, time) => outcome,
            never = watch(&proxy, &peak) => never,
        }
    };
    let (during, outcome) = tokio::join!(bystander(&proxy, protocol, time), attacked);
    let outcome = outcome?;
    ensure!(outcome.sent > 0, "the attacker sent nothing");
    let growth = peak.load(Ordering::Relaxed).saturating_sub(before);
    println!(
        "{}: {} connections, {} frames, {} closed, codes {:?}; grew by {} KiB; others' p99 {:?}, {:?} before",
        attack.name(),
        outcome.connections,
        outcome.sent,
        outcome.closed,
        outcome.codes,
        growth / 1024,
        during.percentile(0.99),
        calm.percentile(0.99)
    );
    ensure!(during.failed == 0, "others suffer: {:?}", during.first_failure);
    ensure!(growth <= MOST, "memory grew by {growth} bytes");
    let grain = if lab.soak { GRAIN } else { DEBUG_GRAIN };
    let most = (calm.percentile(0.99) * TIMES).max(grain);
    ensure!(
        during.percentile(0.99) <= most,
        "others wait {:?}, permitted {most:?}",
        during.percentile(0.99)
    );
    ensure!(
        attack != Attack::RapidReset || origin_is_spared(&outcome, &during, &calm, &origin),
        "all cancelled requests reached the back end"
    );
    Ok(())
}

/// Most of the cancelled requests must not become work for the back end, or the attacker must be
/// sent away.
fn origin_is_spared(
    outcome: &layotto_peers::attack::Outcome,
    during: &Round,
    calm: &Round,
    origin: &Origin,
) -> bool {
    let honest = during.calls + calm.calls;
    outcome.closed > 0 || origin.requests().saturating_sub(honest) < outcome.sent
}

/// Notes the most memory, until it is dropped.
async fn watch<T>(proxy: &Proxy, peak: &AtomicU64) -> Result<T> {
    loop {
        peak.fetch_max(proxy.process.resident()?, Ordering::Relaxed);
        sleep(SAMPLE).await;
    }
}

/// A client that keeps the rules and is in no hurry.
async fn bystander(proxy: &Proxy, protocol: Protocol, time: Duration) -> Round {
    http_load(proxy, protocol, 1, time).await
}

async fn http_load(proxy: &Proxy, protocol: Protocol, at_once: usize, time: Duration) -> Round {
    match protocol {
        Protocol::Http1 => {
            http1::run(&http1::Load {
                connections: at_once,
                time,
                ..http1::Load::new(proxy.address, "/bytes/100")
            })
            .await
        }
        Protocol::Http2 => {
            grpc::run(&grpc::Load {
                streams: at_once,
                time,
                ..grpc::Load::new(proxy.address, "/a.B/C", message(&[b'x'; 100]))
            })
            .await
        }
    }
}
