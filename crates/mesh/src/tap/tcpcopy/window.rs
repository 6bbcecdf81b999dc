//! Sampling: when a window is open, and which one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicI64, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    config::Strategy,
    usage::{Probe, Reading, Usage},
};

/// How far two readings of the machine's use are apart.
const PROBED: Duration = Duration::from_secs(1);

/// What a read costs besides its bytes, in bytes that would cost as much.
const READ_COST: i64 = 256;

/// What is written in place of an id before the first window, as upstream does.
const NO_WINDOW: &str = "inituuid";

/// One sampling window.
#[derive(Debug)]
pub(super) struct Window {
    id: Box<str>,
    /// Counts the windows, from 1.
    number: u64,
}

/// Tells readers whether a window is open; they never wait for it.
#[derive(Debug)]
pub(super) struct Gate {
    /// 0 while closed. Every opening has a number of its own, so that readers notice a gap.
    opening: AtomicU64,
    openings: AtomicU64,
    window: ArcSwap<Window>,
    /// Bytes that may be copied in a second, and that are left of them.
    limit: i64,
    left: AtomicI64,
    usage: Mutex<Option<Usage>>,
}

impl Window {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn after(last: &Self) -> Arc<Self> {
        Arc::new(Self {
            id: uuid::Uuid::new_v4().to_string().into(),
            number: last.number + 1,
        })
    }
}

impl Gate {
    /// A closed gate; so many bytes may be copied in a second.
    pub(super) fn new(limit: u64) -> Self {
        let none = Window {
            id: NO_WINDOW.into(),
            number: 0,
        };
        Self {
            opening: AtomicU64::new(0),
            openings: AtomicU64::new(0),
            window: ArcSwap::from_pointee(none),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            left: AtomicI64::new(0),
            usage: Mutex::default(),
        }
    }

    /// The number of the opening; `None` while closed.
    pub(super) fn opening(&self) -> Option<u64> {
        match self.opening.load(Relaxed) {
            0 => None,
            _ => Some(self.opening.load(Acquire)).filter(|opening| *opening > 0),
        }
    }

    /// The last window that was begun.
    pub(super) fn window(&self) -> Arc<Window> {
        self.window.load_full()
    }

    /// How busy the machine was when that was last asked.
    pub(super) fn usage(&self) -> Option<Usage> {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a read of so many bytes may be copied in this second. The last one may pass the
    /// limit.
    pub(super) fn spend(&self, bytes: usize) -> bool {
        let cost = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_add(READ_COST);
        self.left.load(Relaxed) > 0 && self.left.fetch_sub(cost, Relaxed) > 0
    }

    fn refill(&self) {
        self.left.store(self.limit, Relaxed);
    }

    fn begin_window(&self) {
        self.window.store(Window::after(&self.window.load()));
        self.open();
    }

    fn open(&self) {
        self.refill();
        let opening = self.openings.fetch_add(1, Relaxed) + 1;
        self.opening.store(opening, Release);
    }

    fn close(&self) {
        self.opening.store(0, Release);
    }

    /// Whether the machine is less busy than the strategy's limits; not knowing counts as busy.
    fn is_calm(&self, strategy: &Strategy, before: Option<Reading>, after: Option<Reading>) -> bool {
        let usage = before
            .zip(after)
            .and_then(|(before, after)| Usage::between(before, after));
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = usage;
        usage.is_some_and(|usage| strategy.allows(usage))
    }
}

/// Closes the gate however sampling ends.
struct Closed<'a>(&'a Gate);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Opens and closes the gate by the strategy, anew whenever it changes; ends with its sender.
pub(super) async fn sample(gate: Arc<Gate>, mut strategy: watch::Receiver<Option<Strategy>>, probe: Probe) {
    loop {
        let current = *strategy.borrow_and_update();
        let changed = tokio::select! {
            changed = strategy.changed() => changed,
            () = windows(&gate, current, &probe) => return,
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn windows(gate: &Gate, strategy: Option<Strategy>, probe: &Probe) {
    let Some(strategy) = strategy else {
        return std::future::pending().await;
    };
    let _closed = Closed(gate);
    loop {
        sleep(strategy.interval().saturating_sub(PROBED)).await;
        let before = probe();
        sleep(PROBED).await;
        let after = probe();
        if gate.is_calm(&strategy, before, after) {
            gate.begin_window();
            watch_window(gate, &strategy, probe, after).await;
            gate.close();
        }
    }
}

/// Waits for the end of a window; nothing is dumped in it while the machine is busy.
async fn watch_window(gate: &Gate, strategy: &Strategy, probe: &Probe, mut before: Option<Reading>) {
    let end = Instant::now() + strategy.duration();
    loop {
        sleep_until(end.min(Instant::now() + PROBED)).await;
        if Instant::now() >= end {
            return;
        }
        let after = probe();
        match (gate.is_calm(strategy, before, after), gate.opening()) {
            (true, None) => gate.open(),
            (false, Some(_)) => gate.close(),
            (true, Some(_)) => gate.refill(),
            (false, None) => {}
        }
        before = after;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::tap::tcpcopy::config::Switch;

    const STRATEGY: Strategy = Strategy {
        switch: Switch::On,
        interval: 30,
        duration: 5,
        cpu_max_rate: 80.0,
        mem_max_rate: 70.0,
    };

    struct Sampled {
        gate: Arc<Gate>,
        strategy: watch::Sender<Option<Strategy>>,
        load: Arc<AtomicU32>,
        probes: Arc<AtomicU32>,
    }

    /// A sampler on a machine whose processors are busy by `load` percent; above 100 it does not
    /// tell.
    fn sampled(strategy: Option<Strategy>) -> Sampled {
        let (gate, load, probes) = (
            Arc::new(Gate::new(1000)),
            Arc::<AtomicU32>::default(),
            Arc::<AtomicU32>::default(),
        );
        let (sender, receiver) = watch::channel(strategy);
        let (loaded, counted, busy) = (load.clone(), probes.clone(), AtomicU64::new(0));
        let probe = move || {
            let load = u64::from(loaded.load(Relaxed));
            let count = counted.fetch_add(1, Relaxed) + 1;
            let busy = busy.fetch_add(load, Relaxed) + load;
            (load <= 100).then_some(Reading {
                total: u64::from(count) * 100,
                busy,
                memory: 10.0,
            })
        };
        tokio::spawn(sample(gate.clone(), receiver, Arc::new(probe)));
        Sampled {
            gate,
            strategy: sender,
            load,
            probes,
        }
    }

    impl Sampled {
        fn is_open(&self) -> bool {
            self.gate.opening().is_some()
        }
    }

    async fn pass(seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    /// Lets timers of the moment fire before looking.
    async fn settle(seconds: u64) {
        pass(seconds).await;
        sleep(Duration::from_millis(10)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_window_opens_one_interval_after_the_start() {
        let sampled = sampled(Some(STRATEGY));
        pass(29).await;
        assert!(!sampled.is_open());
        assert_eq!(sampled.gate.window().id(), "inituuid");
        settle(1).await;
        assert!(sampled.is_open());
        assert_eq!(sampled.gate.window().id().len(), 36);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_lasts_its_duration_and_the_next_has_another_id() {
        let sampled = sampled(Some(STRATEGY));
        settle(30).await;
        let first = sampled.gate.window();
        settle(4).await;
        assert!(sampled.is_open());
        settle(1).await;
        assert!(!sampled.is_open());
        settle(30).await;
        assert!(sampled.is_open());
        assert_ne!(sampled.gate.window().id(), first.id());
        assert_eq!(sampled.gate.window().number(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_opens_and_nothing_is_probed_while_off() {
        let sampled = sampled(None);
        settle(3600).await;
        assert!(!sampled.is_open());
        assert_eq!(sampled.probes.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_switch_works_at_once_both_ways() {
        let sampled = sampled(None);
        settle(1).await;
        sampled.strategy.send_replace(Some(STRATEGY));
        settle(30).await;
        assert!(sampled.is_open());
        sampled.strategy.send_replace(None);
        settle(0).await;
        assert!(!sampled.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_opens_on_a_busy_machine_or_one_that_does_not_tell() {
        for load in [90, 101] {
            let sampled = sampled(Some(STRATEGY));
            sampled.load.store(load, Relaxed);
            settle(30).await;
            assert!(!sampled.is_open(), "{load}");
            sampled.load.store(10, Relaxed);
            settle(30).await;
            assert!(sampled.is_open(), "{load}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fuse_pauses_a_window_and_a_calm_machine_resumes_it() {
        let sampled = sampled(Some(STRATEGY));
        settle(30).await;
        let (opening, id) = (sampled.gate.opening(), sampled.gate.window());
        sampled.load.store(90, Relaxed);
        settle(1).await;
        assert!(!sampled.is_open());
        sampled.load.store(10, Relaxed);
        settle(1).await;
        assert!(sampled.is_open());
        assert_ne!(sampled.gate.opening(), opening, "readers must notice the gap");
        assert_eq!(sampled.gate.window().id(), id.id());
    }

    // deviation: D075
    #[tokio::test(start_paused = true)]
    async fn only_so_many_bytes_are_copied_in_a_second() {
        let sampled = sampled(Some(STRATEGY));
        settle(30).await;
        for _second in 0..3 {
            assert!(sampled.gate.spend(700));
            assert!(sampled.gate.spend(700), "44 are left");
            assert!(!sampled.gate.spend(0));
            settle(1).await;
        }
    }

    // deviation: D062
    #[tokio::test(start_paused = true)]
    async fn the_machine_is_probed_at_most_once_a_second() {
        let sampled = sampled(Some(STRATEGY));
        settle(35).await;
        assert_eq!(sampled.probes.load(Relaxed), 2 + 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_sender_closes_the_gate() {
        let Sampled { gate, strategy, .. } = sampled(Some(STRATEGY));
        settle(30).await;
        assert!(gate.opening().is_some());
        drop(strategy);
        settle(0).await;
        assert!(gate.opening().is_none());
    }
}
