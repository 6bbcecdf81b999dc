//! Changes while requests are under way: of the back ends, and of the configuration.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use layotto_peers::{
    load::{
        Round,
        http1::{Load, run},
    },
    origin::Origin,
    proxy::{Kind, Plan, Protocol, Proxy},
};
use tokio::time::{interval, sleep};

use crate::runner::{Case, Ignored, Lab};

/// Time in which a proxy must see that a host is gone or back.
const NOTICE: Duration = Duration::from_secs(2);
const RELOADS_A_SECOND: u64 = 20;

pub fn cases() -> Vec<Case> {
    vec![
        Case::long("change::host_killed_and_back", &[], host_killed_and_back),
        Case::long("change::one_of_two_hosts_killed", &[], one_of_two_hosts_killed),
        Case::long("change::reload_under_load", &[], reload_under_load),
    ]
}

fn load(proxy: &Proxy, time: Duration) -> Load {
    Load {
        connections: 8,
        time,
        // Enough to notice every gap, without a processor of its own.
        pause: Duration::from_millis(1),
        ..Load::new(proxy.address, "/bytes/100")
    }
}

async fn host_killed_and_back(lab: Lab) -> Result<()> {
    let origin = Origin::start().await?;
    let address = origin.address;
    let proxy = Proxy::start(lab.kind, &Plan::of(Protocol::Http1, address)).await?;
    let time = lab.seconds(1, 20);
    run(&load(&proxy, time)).await.ensure_no_failure()?;
    drop(origin);
    let down = run(&load(&proxy, time)).await;
    ensure!(down.calls == 0, "{} answers without a host", down.calls);
    ensure!(down.failed > 0, "no request came to an end without a host");
    let _origin = Origin::start_at(address).await?;
    let recovery = recovery(&proxy).await?;
    println!("host back: answers after {recovery:?}");
    run(&load(&proxy, time)).await.ensure_no_failure()
}

/// Time until a request is answered well.
async fn recovery(proxy: &Proxy) -> Result<Duration> {
    let begun = Instant::now();
    let one = Load {
        connections: 1,
        ..load(proxy, Duration::from_millis(20))
    };
    while run(&one).await.calls == 0 {
        ensure!(
            begun.elapsed() < NOTICE,
            "no answer {NOTICE:?} after the host is back"
        );
    }
    Ok(begun.elapsed())
}

async fn one_of_two_hosts_killed(lab: Lab) -> Result<()> {
    let (first, second) = (Origin::start().await?, Origin::start().await?);
    let plan = Plan {
        hosts: vec![first.address, second.address],
        ..Plan::of(Protocol::Http1, first.address)
    };
    let proxy = Proxy::start(lab.kind, &plan).await?;
    let time = lab.seconds(1, 20);
    run(&load(&proxy, time)).await.ensure_no_failure()?;
    ensure!(
        first.requests() > 0 && second.requests() > 0,
        "only one host was asked"
    );
    drop(first);
    let during = run(&load(&proxy, NOTICE)).await;
    println!(
        "one host killed: {} answered, {} failed until it was noticed",
        during.calls, during.failed
    );
    run(&load(&proxy, time)).await.ensure_no_failure()
}

async fn reload_under_load(lab: Lab) -> Result<()> {
    if matches!(lab.kind, Kind::Envoy | Kind::Copy) {
        return Err(Ignored("it does not read its file again".into()).into());
    }
    let (first, last) = (Origin::start().await?, Origin::start().await?);
    let plan = Plan::of(Protocol::Http1, first.address);
    let proxy = Proxy::start(lab.kind, &plan).await?;
    let time = lab.seconds(4, 60);
    // The others start new processes for each.
    let slower = if lab.kind == Kind::Layotto { 1 } else { 10 };
    let reloads = time.as_secs() * RELOADS_A_SECOND / slower;
    let pace = Duration::from_millis(1000 * slower / RELOADS_A_SECOND);
    let wanted = load(&proxy, time);
    let (round, reloaded) = tokio::join!(run(&wanted), reload(&proxy, &plan, reloads, pace));
    reloaded?;
    println!(
        "reload: {} answered, {} failed during {reloads} reloads",
        round.calls, round.failed
    );
    round.ensure_no_failure()?;
    takes_effect(&proxy, &last).await
}

/// Changes the routes each time; each tenth file is broken.
async fn reload(proxy: &Proxy, plan: &Plan, times: u64, pace: Duration) -> Result<()> {
    let mut ticks = interval(pace);
    for number in 0..times {
        ticks.tick().await;
        if number % 10 == 9 {
            proxy.reload_text("{\"servers\": [{")?;
            continue;
        }
        let routes = usize::try_from(number % 7)?;
        proxy.reload(&Plan {
            routes,
            ..plan.clone()
        })?;
    }
    Ok(())
}

/// The proxy still reads its file: it sends to `host` when told to.
async fn takes_effect(proxy: &Proxy, host: &Origin) -> Result<()> {
    proxy.reload(&Plan::of(Protocol::Http1, host.address))?;
    let begun = Instant::now();
    while host.requests() == 0 {
        ensure!(
            begun.elapsed() < NOTICE * 2,
            "the last configuration is not in force"
        );
        let round: Round = run(&load(proxy, Duration::from_millis(50))).await;
        ensure!(round.failed == 0, "{:?}", round.first_failure);
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
