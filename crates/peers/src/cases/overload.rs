//! More requests than there is room for: the rest is refused at once, and what fits is served.

use std::time::Duration;

use anyhow::{Result, ensure};
use layotto_peers::{
    load::{
        http1::{Load, run},
        percentile,
    },
    origin::Origin,
    proxy::{Kind, Plan, Protocol, Proxy},
};

use crate::runner::{Case, Ignored, Lab};

/// Requests under way that the proxy permits; each takes [`WORK`].
const ROOM: usize = 20;
const WORK: Duration = Duration::from_millis(50);
const TIMES: usize = 5;
/// Share of the peak that must still be served.
const GOODPUT: f64 = 0.9;
/// The same for a build that is not optimised, on a machine that does other work.
const DEBUG_GOODPUT: f64 = 0.8;
/// How soon half of the refusals come.
const REFUSAL: Duration = Duration::from_millis(5);
/// The same for a build that is not optimised.
const DEBUG_REFUSAL: Duration = Duration::from_millis(50);

pub fn cases() -> Vec<Case> {
    vec![Case::long(
        "overload::five_times_the_capacity_keeps_the_goodput",
        &[],
        |lab| lab.measure(move || goodput(lab)),
    )]
}

async fn goodput(lab: Lab) -> Result<()> {
    if matches!(lab.kind, Kind::Nginx | Kind::Copy) {
        return Err(Ignored("it has no limit of requests under way".into()).into());
    }
    let origin = Origin::start().await?;
    let plan = Plan {
        most: u32::try_from(ROOM)?,
        ..Plan::of(Protocol::Http1, origin.address)
    };
    let proxy = Proxy::start(lab.kind, &plan).await?;
    let load = |connections| Load {
        connections,
        time: lab.seconds(3, 60),
        ..Load::new(proxy.address, format!("/wait/{}", WORK.as_millis()))
    };
    let peak = run(&load(ROOM)).await;
    peak.ensure_no_failure()?;
    // A client that is refused comes back after as long as the work would have taken.
    let over = run(&Load {
        pause: WORK,
        ..load(ROOM * TIMES)
    })
    .await;
    let share = over.rate() / peak.rate();
    let refusal = percentile(&over.refusals, 0.5);
    println!(
        "overload: {:.0}/s at capacity; at {TIMES} times {:.0}/s ({:.0} %), {} refused, half within {refusal:?}",
        peak.rate(),
        over.rate(),
        share * 100.0,
        over.failed
    );
    let least = if lab.soak { GOODPUT } else { DEBUG_GOODPUT };
    ensure!(share >= least, "only {:.0} % of the peak is left", share * 100.0);
    // HAProxy lets them wait instead.
    if lab.kind == Kind::Layotto {
        ensure!(over.failed > 0, "nothing was refused");
        let most = if lab.soak { REFUSAL } else { DEBUG_REFUSAL };
        ensure!(refusal <= most, "refusals take {refusal:?}");
    }
    Ok(())
}
