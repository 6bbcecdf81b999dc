//! How many requests a client may give up soon after it began them. Each costs us and a host as
//! much as one that is answered, and the client next to nothing; no limit on open streams holds it
//! up. Requests that are given up later are no abuse: calls whose deadline is over, streams that
//! have served their time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A request that is given up sooner than this counts. Whoever waits as long cannot begin more
/// requests a second than it may have streams open.
pub(super) const EARLY: Duration = Duration::from_secs(1);

/// How many may be given up at once: a caller that gives up a job gives up all calls of it.
const AT_ONCE: f64 = 500.0;

/// How many more for each answer: of calls that are hedged, all but the fastest are given up.
const EACH_ANSWER: f64 = 2.0;

/// How many more each second, whether or not there are answers.
const EACH_SECOND: f64 = 33.0;

/// What is left of one connection's allowance.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Answers so far, modulo the size of the counter.
    answered: AtomicUsize,
    left: Mutex<Left>,
}

#[derive(Debug)]
struct Left {
    requests: f64,
    /// When that was so, and after how many answers.
    at: Instant,
    answered: usize,
}

impl Allowance {
    /// That of a connection that begins `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            answered: AtomicUsize::new(0),
            left: Mutex::new(Left {
                requests: AT_ONCE,
                at: now,
                answered: 0,
            }),
        }
    }

    /// A request was answered.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }

    /// A request that began at `begun` is given up `now`; whether that was permitted.
    pub(super) fn give_up(&self, begun: Instant, now: Instant) -> bool {
        if now.saturating_duration_since(begun) >= EARLY {
            return true;
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.refill(self.answered.load(Relaxed), now);
        left.requests -= 1.0;
        left.requests >= 0.0
    }
}

impl Left {
    fn refill(&mut self, answered: usize, now: Instant) {
        let answers = answered.wrapping_sub(self.answered) as f64;
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        let more = answers * EACH_ANSWER + seconds * EACH_SECOND;
        self.requests = (self.requests + more).min(AT_ONCE);
        (self.at, self.answered) = (now, answered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    /// How many requests, given up one by one `after` they began, are permitted of `most`, `each` a
    /// second, with `answers` to each.
    fn permitted(most: u64, each: u64, answers: usize, after: Duration) -> u64 {
        let begin = Instant::now();
        let allowance = Allowance::new(begin);
        let pause = Duration::from_secs(1) / u32::try_from(each).unwrap();
        let mut begun = begin;
        (0..most)
            .take_while(|_| {
                begun += pause;
                (0..answers).for_each(|_| allowance.answered());
                allowance.give_up(begun, begun + after)
            })
            .count() as u64
    }

    #[test]
    fn a_client_that_gives_up_thirty_a_second_may_do_so_for_hours() {
        assert_eq!(permitted(30 * HOUR, 30, 0, Duration::from_millis(1)), 30 * HOUR);
    }

    #[test]
    fn hedged_calls_may_be_given_up_as_often_as_their_twins_are_answered() {
        let often = 20_000;
        assert_eq!(permitted(often, 10_000, 1, Duration::from_millis(1)), often);
    }

    #[test]
    fn calls_whose_time_is_over_are_no_abuse() {
        let often = 100_000;
        assert_eq!(permitted(often, 20_000, 0, EARLY), often);
    }

    #[test]
    fn requests_that_are_given_up_at_once_are_soon_too_many() {
        let after = EARLY - Duration::from_millis(1);
        let permitted = permitted(100_000, 20_000, 0, after);
        assert!((500..510).contains(&permitted), "{permitted}");
    }

    #[test]
    fn a_long_quiet_time_does_not_add_up() {
        let begin = Instant::now();
        let allowance = Allowance::new(begin);
        let later = begin + Duration::from_secs(HOUR);
        (0..10_000).for_each(|_| allowance.answered());
        let permitted = (0..10_000).take_while(|_| allowance.give_up(later, later));
        assert_eq!(permitted.count(), 500);
    }
}
