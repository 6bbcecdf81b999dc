//! Leases of items with a time to live, whose ids tell when they end: a reader of a key gets the
//! id along with the value, and needs no second request.
//!
//! An id has, from its highest bit but the sign: 32 bits of seconds since 1970, 19 random bits, and
//! 12 bits that follow from these, by which it is told from ids that etcd or others choose.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Millis;

const CHECK_BITS: u32 = 12;
const RANDOM_BITS: u32 = 19;

/// An id for a lease that ends `ttl` from now.
pub(super) fn lease_id(ttl: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Rounded up: an item is not said to end before it may.
    let end = now.saturating_add(ttl).as_millis().div_ceil(1000);
    let end = u32::try_from(end).unwrap_or(u32::MAX);
    let random = fastrand::u32(..1 << RANDOM_BITS);
    let upper = (i64::from(end) << RANDOM_BITS) | i64::from(random);
    (upper << CHECK_BITS) | check(upper)
}

/// Whether a lease is that of one item.
pub(super) fn is_ours(lease: i64) -> bool {
    lease > 0 && check(lease >> CHECK_BITS) == lease & ((1 << CHECK_BITS) - 1)
}

/// When the lease ends; 0 where that cannot be told.
pub(super) fn end_of(lease: i64) -> Millis {
    if !is_ours(lease) {
        return 0;
    }
    let seconds = lease >> (CHECK_BITS + RANDOM_BITS);
    u64::try_from(seconds).unwrap_or_default().saturating_mul(1000)
}

/// The upper bits of a product, which depend on all bits of the factor; never 0.
fn check(upper: i64) -> i64 {
    let mixed = upper.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) as u64;
    let check = mixed >> (u64::BITS - CHECK_BITS);
    i64::try_from(check.max(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_its_lease_ends() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let id = lease_id(Duration::from_secs(100));
        assert!(is_ours(id));
        let end = u128::from(end_of(id));
        assert!((before + 100_000..before + 102_000).contains(&end), "{end}");
    }

    #[test]
    fn an_end_beyond_the_range_is_the_last_of_it() {
        let id = lease_id(Duration::from_secs(u64::MAX));
        assert!(is_ours(id));
        assert_eq!(end_of(id), u64::from(u32::MAX) * 1000);
    }

    #[test]
    fn ids_of_others_are_told_apart() {
        assert!(!is_ours(0));
        // What etcd chooses: the node's id, the time, a counter.
        let of_etcd = (0..10_000).map(|count| 0x694d_7f3c_1a2b_4c00 + count);
        assert!(of_etcd.filter(|id| is_ours(*id)).count() < 10);
        assert_eq!(end_of(0x694d_7f3c_1a2b_4c05), 0);
    }
}
