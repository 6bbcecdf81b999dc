//! When a failed try is followed by another one, and after which pause.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use http::StatusCode;

use crate::{router::RetryPolicy, upstream::Fault};

const BASE: Duration = Duration::from_millis(25);
const CAP: Duration = Duration::from_millis(250);

/// What may be wrong with a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The reply has this status.
    Status(StatusCode),
    /// There is no reply.
    Fault(Fault),
    /// The try took too long.
    Timeout,
}

impl Trouble {
    /// Whether it says something about the host: not if the client or a limit is to blame.
    pub(super) fn is_the_hosts(self) -> bool {
        match self {
            Self::Status(_) | Self::Timeout => true,
            Self::Fault(fault) => matches!(fault, Fault::Connect | Fault::Reset | Fault::Terminated),
        }
    }
}

/// The tries that are left of a policy.
#[derive(Debug)]
pub(super) struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    made: u32,
}

impl<'a> Retries<'a> {
    /// What `policy` allows; with `None` nothing.
    pub(super) fn new(policy: Option<&'a RetryPolicy>) -> Self {
        Self { policy, made: 0 }
    }

    /// Whether another try may come at all.
    pub(super) fn are_left(&self) -> bool {
        self.policy.is_some_and(|policy| self.made < policy.num_retries)
    }

    /// Whether `trouble` is a reason for another try, and one is left.
    pub(super) fn want(&self, trouble: Trouble) -> bool {
        self.are_left() && self.policy.is_some_and(|policy| is_reason(policy, trouble))
    }

    /// The pause before the next try, which is counted: up to 25 ms, then up to twice as long each
    /// time, up to 250 ms; at random, so that many do not come back at once.
    pub(super) fn next(&mut self) -> Duration {
        let longest = BASE.saturating_mul(1 << self.made.min(10)).min(CAP);
        self.made += 1;
        let random = RandomState::new().build_hasher().finish() >> 32;
        longest.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / f64::from(u32::MAX))
    }
}

fn is_reason(policy: &RetryPolicy, trouble: Trouble) -> bool {
    match trouble {
        Trouble::Fault(Fault::Connect) => true,
        Trouble::Fault(Fault::Reset | Fault::Terminated) | Trouble::Timeout => policy.retry_on,
        Trouble::Status(status) => {
            let bad = status.is_server_error() || policy.status_codes.contains(&status.as_u16());
            policy.retry_on && bad
        }
        Trouble::Fault(Fault::Overflow(_) | Fault::Request | Fault::Unsendable) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Overflow;

    fn policy(retry_on: bool, num_retries: u32) -> RetryPolicy {
        RetryPolicy {
            retry_on,
            num_retries,
            retry_timeout: None,
            status_codes: vec![404],
        }
    }

    // deviation: D051
    #[test]
    fn no_policy_is_no_retry() {
        assert!(!Retries::new(None).want(Trouble::Fault(Fault::Connect)));
        assert!(!Retries::new(Some(&policy(true, 0))).want(Trouble::Fault(Fault::Connect)));
    }

    #[test]
    fn without_retry_on_only_failed_connects_are_tried_again() {
        let (off, on) = (policy(false, 1), policy(true, 1));
        for (trouble, without, with) in [
            (Trouble::Fault(Fault::Connect), true, true),
            (Trouble::Fault(Fault::Terminated), false, true),
            (Trouble::Fault(Fault::Reset), false, true),
            (Trouble::Timeout, false, true),
            (Trouble::Status(StatusCode::SERVICE_UNAVAILABLE), false, true),
            (Trouble::Status(StatusCode::NOT_FOUND), false, true),
            (Trouble::Status(StatusCode::BAD_REQUEST), false, false),
            (Trouble::Fault(Fault::Overflow(Overflow::Requests)), false, false),
            (Trouble::Fault(Fault::Request), false, false),
        ] {
            assert_eq!(Retries::new(Some(&off)).want(trouble), without, "{trouble:?}");
            assert_eq!(Retries::new(Some(&on)).want(trouble), with, "{trouble:?}");
        }
    }

    #[test]
    fn tries_are_counted_and_pauses_grow_up_to_a_cap() {
        let policy = policy(true, 8);
        let mut retries = Retries::new(Some(&policy));
        for made in 0..8 {
            assert!(retries.are_left());
            assert!(retries.next() <= (BASE * (1 << made)).min(CAP));
        }
        assert!(!retries.are_left());
    }
}
