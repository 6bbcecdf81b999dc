//! The clock of running guests: a thread that moves the engine's epoch on, and sleeps while no guest
//! runs.

use std::{
    fmt, io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::setpriority_process;

use crate::clock::Clock;

/// The thread goes to sleep after so many ticks without a guest, so that a guest every now and then
/// does not wake it each time.
const IDLE_TICKS: u32 = 50;

/// The priority of the thread, which works for some microseconds each time.
const NICE: i32 = -10;

/// How many ticks are short after one that met a guest which runs for long: on a busy machine its next
/// turn comes some ticks later.
const SHORT_TICKS: u32 = 100;

pub(super) struct Ticker {
    shared: Arc<Shared>,
    tick: Duration,
    turn: Duration,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    /// There is a guest that runs for longer than a tick.
    overran: AtomicBool,
    asleep: AtomicBool,
    ended: Mutex<bool>,
    woken: Condvar,
}

/// One guest that runs.
pub(crate) struct Running(Arc<Shared>);

/// How often guests give way: seldom, and often while there is one that runs for longer than a tick.
pub(crate) struct Pace {
    shared: Arc<Shared>,
    tick: Duration,
    turn: Duration,
}

impl Pace {
    /// Whether a guest that meets a tick gives way. One that just began does not: it would wait for those
    /// that run for long.
    pub(crate) fn gives_way(&self, clock: &mut Clock) -> bool {
        let used = clock.gives_way(self.turn / 2);
        if used.is_some_and(|used| used >= self.tick) {
            self.shared.overran.store(true, Relaxed);
        }
        used.is_some()
    }
}

impl Ticker {
    /// Ticks every `tick`, and every `turn` while guests run for longer than that.
    pub(super) fn start(engine: wasmtime::Engine, tick: Duration, turn: Duration) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new().name("wasm-epochs".to_owned());
        let thread = thread.spawn({
            let shared = shared.clone();
            move || shared.run(&engine, tick, turn)
        })?;
        Ok(Self {
            shared,
            tick,
            turn,
            thread: Some(thread),
        })
    }

    pub(super) fn running(&self) -> Running {
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.asleep.load(SeqCst) {
            self.shared.wake(false);
        }
        Running(self.shared.clone())
    }

    pub(super) fn pace(&self) -> Pace {
        Pace {
            shared: self.shared.clone(),
            tick: self.tick,
            turn: self.turn,
        }
    }
}

impl Shared {
    fn run(&self, engine: &wasmtime::Engine, tick: Duration, turn: Duration) {
        // Where the process may: with more threads than processors, a tick that waits for its turn among
        // them comes milliseconds late. Of this thread alone, as always with Linux.
        setpriority_process(None, NICE).ok();
        let (mut idle, mut short) = (0, 0_u32);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            idle = if self.running.load(SeqCst) == 0 {
                idle + 1
            } else {
                0
            };
            if idle > IDLE_TICKS {
                self.asleep.store(true, SeqCst);
                // Looked at again after the flag is up: who starts now either is seen or sees it.
                while self.running.load(SeqCst) == 0 && !*ended {
                    ended = self.woken.wait(ended).unwrap_or_else(PoisonError::into_inner);
                }
                self.asleep.store(false, SeqCst);
                idle = 0;
            }
            let wait = if short > 0 { turn } else { tick };
            let waited = self.woken.wait_timeout(ended, wait);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
            engine.increment_epoch();
            short = match self.overran.swap(false, Relaxed) {
                true => SHORT_TICKS,
                false => short.saturating_sub(1),
            };
        }
    }

    fn wake(&self, end: bool) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended |= end;
        self.woken.notify_one();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.wake(true);
        let Some(Err(_)) = self.thread.take().map(JoinHandle::join) else {
            return;
        };
        tracing::error!("the thread of epochs panicked");
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn until(met: impl Fn() -> bool) {
        let start = Instant::now();
        while !met() {
            assert!(start.elapsed() < Duration::from_secs(10), "in 10 seconds");
            thread::yield_now();
        }
    }

    #[test]
    fn the_thread_sleeps_while_nothing_runs_and_wakes_for_a_guest() {
        let engine = wasmtime::Engine::default();
        let ticker = Ticker::start(engine, Duration::from_micros(100), Duration::from_micros(100)).unwrap();
        until(|| ticker.shared.asleep.load(SeqCst));
        let running = ticker.running();
        until(|| !ticker.shared.asleep.load(SeqCst));
        drop(running);
        until(|| ticker.shared.asleep.load(SeqCst));
    }

    #[test]
    fn dropping_it_ends_the_thread() {
        let ticker = Ticker::start(
            wasmtime::Engine::default(),
            Duration::from_secs(60),
            Duration::from_secs(60),
        )
        .unwrap();
        let shared = Arc::downgrade(&ticker.shared);
        drop(ticker);
        assert_eq!(shared.strong_count(), 0);
    }
}
