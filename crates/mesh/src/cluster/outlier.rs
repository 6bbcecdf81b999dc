//! Ejection of hosts that fail more than others: for a while they count as unhealthy.
//!
//! Tries are counted per host over a window. At its end the share of failed tries of each host is
//! compared with that of the whole cluster; the worst hosts are ejected.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{Cluster, Host, Outcome};

/// When hosts are ejected, and for how long.
#[derive(Debug)]
pub struct Settings {
    /// Statuses that count as failed; tries without a reply always do.
    pub statuses: BTreeSet<u16>,
    /// How long tries are counted until hosts are judged.
    pub window: Duration,
    /// How many tries of a host there must be in a window for it to be judged.
    pub least_tries: u32,
    /// How many times the cluster's share of failed tries a host's must reach; above 1.
    pub rate_multiple: f64,
    /// How many hosts of a cluster may be ejected at one time.
    pub max_ejected: usize,
    /// How long a host stays ejected.
    pub recover: Duration,
    /// When the settings were made: the newest count, where several judge one cluster.
    pub made: Instant,
}

/// Judges the hosts of one cluster.
#[derive(Debug)]
pub(super) struct Outlier {
    settings: ArcSwapOption<Weak<Settings>>,
    born: Instant,
    /// Milliseconds after `born`.
    window_began: AtomicU64,
}

/// The tries of a host in the current window.
#[derive(Debug, Default)]
pub(super) struct Window {
    tries: AtomicU32,
    failed: AtomicU32,
}

/// What a window came to.
struct Verdict {
    host: Arc<Host>,
    tries: u32,
    failed: u32,
}

impl Outlier {
    pub(super) fn new() -> Self {
        Self {
            settings: ArcSwapOption::empty(),
            born: Instant::now(),
            window_began: AtomicU64::new(0),
        }
    }

    /// Judges by `settings` until newer ones come or their owner drops them.
    pub(super) fn judge_by(&self, settings: &Arc<Settings>) {
        if self.settings().is_some_and(|known| known.made >= settings.made) {
            return;
        }
        self.window_began.store(self.now(), Relaxed);
        self.settings.store(Some(Arc::new(Arc::downgrade(settings))));
    }

    /// Counts a try of `host`; `Some`: the window is over, and it is on the caller to judge.
    pub(super) fn record(&self, host: &Host, outcome: &Outcome) -> Option<()> {
        let settings = self.settings()?;
        let failed = outcome
            .status
            .is_none_or(|status| settings.statuses.contains(&status.as_u16()));
        host.window.tries.fetch_add(1, Relaxed);
        host.window.failed.fetch_add(failed.into(), Relaxed);
        let (began, now) = (self.window_began.load(Relaxed), self.now());
        if Duration::from_millis(now.saturating_sub(began)) < settings.window {
            return None;
        }
        // One of the tries that see the end judges.
        self.window_began
            .compare_exchange(began, now, Relaxed, Relaxed)
            .ok()
            .map(drop)
    }

    /// Judges the hosts of `cluster`, and begins a new window.
    pub(super) fn judge(&self, cluster: &Cluster) {
        let Some(settings) = self.settings() else {
            return;
        };
        let hosts = cluster.hosts();
        let verdicts: Vec<_> = hosts.iter().map(Verdict::of).collect();
        let worst = worst(verdicts, &settings);
        let ejected = hosts.iter().filter(|host| host.is_ejected()).count();
        let mut well = hosts.iter().filter(|host| host.is_healthy()).count();
        let mut changed = false;
        for verdict in worst
            .into_iter()
            .take(settings.max_ejected.saturating_sub(ejected))
        {
            // The last host that is well is worth more than none.
            if well > 1 && verdict.host.eject(settings.recover) {
                well -= 1;
                changed = true;
                cluster.health.passive_failure.inc();
                tracing::warn!(
                    cluster = %cluster.name, host = %verdict.host.name,
                    failed = verdict.failed, tries = verdict.tries, "host is ejected"
                );
            }
        }
        if changed {
            cluster.refresh();
        }
    }

    fn settings(&self) -> Option<Arc<Settings>> {
        self.settings.load().as_ref()?.upgrade()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The hosts to eject, the worst first.
fn worst(mut verdicts: Vec<Verdict>, settings: &Settings) -> Vec<Verdict> {
    verdicts.retain(|verdict| verdict.tries >= settings.least_tries.max(1));
    let tries: f64 = verdicts.iter().map(|verdict| f64::from(verdict.tries)).sum();
    let failed: f64 = verdicts.iter().map(|verdict| f64::from(verdict.failed)).sum();
    let limit = settings.rate_multiple * failed / tries;
    verdicts.retain(|verdict| verdict.failed > 0 && verdict.rate() >= limit && verdict.host.is_healthy());
    verdicts.sort_by(|a, b| b.rate().total_cmp(&a.rate()));
    verdicts
}

impl Verdict {
    fn of(host: &Arc<Host>) -> Self {
        Self {
            tries: host.window.tries.swap(0, Relaxed),
            failed: host.window.failed.swap(0, Relaxed),
            host: host.clone(),
        }
    }

    fn rate(&self) -> f64 {
        f64::from(self.failed) / f64::from(self.tries)
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::cluster::{
        Pick,
        balance::testing::{cluster_of, config},
    };

    fn settings(max_ejected: usize) -> Arc<Settings> {
        Arc::new(Settings {
            statuses: [502, 503].into(),
            window: Duration::from_secs(10),
            least_tries: 10,
            rate_multiple: 5.0,
            max_ejected,
            recover: Duration::from_secs(60),
            made: Instant::now(),
        })
    }

    fn cluster(hosts: usize) -> Arc<Cluster> {
        cluster_of(config("LB_RANDOM", &vec![1; hosts]))
    }

    fn record(host: &Host, status: Option<u16>, times: usize) {
        let outcome = Outcome {
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            latency: Duration::from_millis(1),
        };
        (0..times).for_each(|_| host.record(outcome));
    }

    /// One window in which the hosts of `bad` fail, all others succeed.
    async fn window(cluster: &Cluster, bad: &[(usize, Option<u16>)], times: usize) {
        for (index, host) in cluster.hosts().iter().enumerate() {
            let bad = bad.iter().find(|(bad, _)| *bad == index);
            record(host, bad.map_or(Some(200), |(_, status)| *status), times);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        record(&cluster.hosts()[0], Some(200), 1);
    }

    fn ejected(cluster: &Cluster) -> Vec<usize> {
        let hosts = cluster.hosts();
        (0..hosts.len())
            .filter(|index| hosts[*index].is_ejected())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_fails_more_than_others_is_ejected_and_comes_back() {
        let (cluster, settings) = (cluster(8), settings(1));
        cluster.hosts()[0].judge_by(&settings);
        window(&cluster, &[(3, Some(503))], 20).await;
        assert_eq!(ejected(&cluster), [3]);
        assert_eq!(cluster.health.passive_failure.get(), 1);
        let bad = cluster.hosts()[3].name.clone();
        for _ in 0..200 {
            assert_ne!(cluster.choose(&Pick::default()).unwrap().name, bad);
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!((0..200).any(|_| cluster.choose(&Pick::default()).unwrap().name == bad));
        assert!(ejected(&cluster).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn tries_without_a_reply_count_and_other_statuses_do_not() {
        let (cluster, settings) = (cluster(14), settings(5));
        cluster.hosts()[0].judge_by(&settings);
        window(
            &cluster,
            &[(3, None), (4, Some(500)), (5, Some(404)), (6, Some(502))],
            20,
        )
        .await;
        assert_eq!(ejected(&cluster), [3, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_hosts_are_ejected_than_allowed() {
        let (cluster, settings) = (cluster(20), settings(2));
        cluster.hosts()[0].judge_by(&settings);
        let bad = [(3, None), (4, None), (5, None)];
        window(&cluster, &bad, 20).await;
        assert_eq!(ejected(&cluster).len(), 2);
        window(&cluster, &bad, 20).await;
        assert_eq!(ejected(&cluster).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_fails_as_a_whole_keeps_its_hosts() {
        let (cluster, settings) = (cluster(4), settings(4));
        cluster.hosts()[0].judge_by(&settings);
        window(&cluster, &[(0, None), (1, None), (2, None), (3, None)], 20).await;
        assert!(ejected(&cluster).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn few_tries_are_no_ground() {
        let (cluster, settings) = (cluster(8), settings(1));
        cluster.hosts()[0].judge_by(&settings);
        window(&cluster, &[(3, Some(503))], 9).await;
        assert!(ejected(&cluster).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_judges_once_the_owner_of_the_settings_is_gone() {
        let (cluster, settings) = (cluster(8), settings(1));
        cluster.hosts()[0].judge_by(&settings);
        drop(settings);
        window(&cluster, &[(3, Some(503))], 20).await;
        assert!(ejected(&cluster).is_empty());
    }
}
