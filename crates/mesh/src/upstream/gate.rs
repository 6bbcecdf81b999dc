//! The waker that a connection gets when the task that uses it polls it too. What wakes it while
//! it is polled (a channel between both halves of the connection, above all) asks for one more
//! round and not for a wake-up of the task; what wakes it while nobody waits is only remembered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::AcqRel},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Rounds of one poll. The runtime's budget wakes those whom it stops: without an end they would
/// go on in spite of it.
const ROUNDS: u32 = 3;

const QUIET: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    inner: Arc<Inner>,
    waker: Waker,
}

#[derive(Debug)]
struct Inner {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Gate {
    pub(super) fn new() -> Self {
        let inner = Arc::new(Inner {
            state: AtomicU8::new(WOKEN),
            task: AtomicWaker::new(),
        });
        Self {
            waker: Waker::from(inner.clone()),
            inner,
        }
    }

    /// Polls until it is ready, or pending without having been woken meanwhile.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.inner.task.register(cx.waker());
        let mut inner = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS {
            self.inner.state.swap(POLLED, AcqRel);
            if let Poll::Ready(done) = poll(&mut inner) {
                return Poll::Ready(done);
            }
            if self.calm() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls once with nobody waiting for the result.
    pub(super) fn try_poll<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.inner.state.swap(POLLED, AcqRel);
        poll(&mut Context::from_waker(&self.waker))
    }

    /// Nobody waits any more.
    pub(super) fn leave(&self) {
        drop(self.inner.task.take());
        self.calm();
    }

    /// Whether it was woken since [`leave`](Self::leave).
    pub(super) fn is_woken(&self) -> bool {
        self.inner.state.load(std::sync::atomic::Ordering::Acquire) == WOKEN
    }

    /// From being polled to quiet, unless it was woken.
    fn calm(&self) -> bool {
        let calmed =
            self.inner
                .state
                .compare_exchange(POLLED, QUIET, AcqRel, std::sync::atomic::Ordering::Acquire);
        calmed.is_ok()
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, AcqRel) == QUIET {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::task::{ArcWake, waker};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl ArcWake for Task {
        fn wake_by_ref(task: &Arc<Self>) {
            task.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_wake_during_the_poll_is_one_more_round_and_no_wake_up() {
        let (gate, task) = (Gate::new(), Arc::new(Task::default()));
        let waker = waker(task.clone());
        let mut rounds = 0;
        let polled = gate.poll(&mut Context::from_waker(&waker), |cx| {
            rounds += 1;
            if rounds == 1 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, task.0.load(Relaxed)), (2, 0));
    }

    #[test]
    fn a_wake_after_the_poll_wakes_the_task_once() {
        let (gate, task) = (Gate::new(), Arc::new(Task::default()));
        let waker = waker(task.clone());
        let mut inner = None;
        let _pending = gate.poll(&mut Context::from_waker(&waker), |cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        let inner = inner.unwrap();
        inner.wake_by_ref();
        inner.wake_by_ref();
        assert_eq!(task.0.load(Relaxed), 1);
    }

    #[test]
    fn a_poll_that_always_wakes_itself_lets_others_run() {
        let (gate, task) = (Gate::new(), Arc::new(Task::default()));
        let waker = waker(task.clone());
        let mut rounds = 0;
        let polled = gate.poll(&mut Context::from_waker(&waker), |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, task.0.load(Relaxed)), (ROUNDS, 1));
    }

    #[test]
    fn what_happens_while_nobody_waits_is_remembered() {
        let gate = Gate::new();
        let mut inner = None;
        let _pending = gate.try_poll(|cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        gate.leave();
        assert!(!gate.is_woken());
        inner.unwrap().wake();
        assert!(gate.is_woken());
    }
}
