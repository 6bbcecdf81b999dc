//! Shared data, queues, metrics.

use futures::FutureExt;

use super::*;

#[tokio::test]
async fn shared_data_is_compared_and_swapped() {
    let mut guest = Mirror::new().await;
    let (get, set) = ("proxy_get_shared_data", "proxy_set_shared_data");
    assert_eq!(with(&mut guest, get, &[], &["k"], &[P, N, T]).await, NOT_FOUND);
    assert_eq!(with(&mut guest, set, &[], &["k", "one"], &[0]).await, OK);
    assert_eq!(with(&mut guest, get, &[], &["k"], &[P, N, T]).await, OK);
    assert_eq!(guest.given(16, 20), "one");
    let cas = i64::from(guest.u32(24));
    assert_eq!(
        with(&mut guest, set, &[], &["k", "two"], &[cas + 1]).await,
        CAS_MISMATCH
    );
    assert_eq!(with(&mut guest, set, &[], &["k", "two"], &[cas]).await, OK);
    assert_eq!(
        with(&mut guest, set, &[], &["k", "three"], &[cas]).await,
        CAS_MISMATCH
    );
    assert_eq!(guest.call(get, &[WILD, 1, P, N, T]).await, INVALID_MEMORY);
    assert_eq!(guest.call(get, &[1000, 1, P, N, WILD]).await, INVALID_MEMORY);
    assert_eq!(guest.call(set, &[1000, 1, WILD, 1, 0]).await, INVALID_MEMORY);
}

#[tokio::test]
async fn queues_are_registered_found_filled_and_emptied() {
    let mut guest = Mirror::new().await;
    let resolve = "proxy_resolve_shared_queue";
    assert_eq!(with(&mut guest, resolve, &[], &["", "q"], &[T]).await, NOT_FOUND);
    assert_eq!(
        with(&mut guest, "proxy_register_shared_queue", &[], &["q"], &[T]).await,
        OK
    );
    let token = i64::from(guest.u32(24));
    assert_eq!(with(&mut guest, resolve, &[], &["", "q"], &[T]).await, OK);
    assert_eq!(i64::from(guest.u32(24)), token);
    let (enqueue, dequeue) = ("proxy_enqueue_shared_queue", "proxy_dequeue_shared_queue");
    assert_eq!(guest.call(dequeue, &[token, P, N]).await, EMPTY);
    assert_eq!(with(&mut guest, enqueue, &[token], &["item"], &[]).await, OK);
    assert_eq!(
        guest.call(dequeue, &[token, WILD, N]).await,
        INVALID_MEMORY,
        "and it stays"
    );
    assert_eq!(guest.call(dequeue, &[token, P, N]).await, OK);
    assert_eq!(guest.given(16, 20), "item");
    assert_eq!(guest.call(dequeue, &[99, P, N]).await, NOT_FOUND);
    assert_eq!(with(&mut guest, enqueue, &[99], &["item"], &[]).await, NOT_FOUND);
    assert_eq!(guest.call(enqueue, &[token, WILD, 1]).await, INVALID_MEMORY);
    assert_eq!(
        guest.call("proxy_register_shared_queue", &[1000, 1, WILD]).await,
        INVALID_MEMORY
    );
    assert_eq!(guest.call(resolve, &[WILD, 1, 1000, 1, T]).await, INVALID_MEMORY);
}

#[tokio::test]
async fn an_item_that_the_guest_has_no_room_for_stays_the_first() {
    let full = ALLOCATOR.replace(
        "global.get $next\n        global.get",
        "i32.const 0\n        global.get",
    );
    let mut guest = Mirror::with(&full).await;
    let register = "proxy_register_shared_queue";
    assert_eq!(with(&mut guest, register, &[], &["q"], &[T]).await, OK);
    let token = i64::from(guest.u32(24));
    for item in ["one", "two"] {
        let enqueue = "proxy_enqueue_shared_queue";
        assert_eq!(with(&mut guest, enqueue, &[token], &[item], &[]).await, OK);
    }
    let taken = guest.call("proxy_dequeue_shared_queue", &[token, P, N]).await;
    assert_eq!(taken, INVALID_MEMORY);
    let shared = guest.guest().facts.shared.clone();
    for item in ["one", "two"] {
        assert_eq!(shared.dequeue(guest.u32(24)).unwrap(), item);
    }
}

#[tokio::test]
async fn an_item_stays_where_the_call_is_given_up_while_the_guest_makes_room() {
    let endless = ALLOCATOR.replace(
        "global.get $next\n        global.get",
        "(loop (br 0)) i32.const 0\n        global.get",
    );
    let mut guest = Mirror::with(&endless).await;
    let register = "proxy_register_shared_queue";
    assert_eq!(with(&mut guest, register, &[], &["q"], &[T]).await, OK);
    let token = guest.u32(24);
    let enqueue = "proxy_enqueue_shared_queue";
    assert_eq!(
        with(&mut guest, enqueue, &[token.into()], &["one"], &[]).await,
        OK
    );
    let into = [token.into(), P, N];
    let taken = guest.call("proxy_dequeue_shared_queue", &into);
    assert_eq!(taken.now_or_never(), None, "it gives way");
    assert_eq!(guest.guest().facts.shared.dequeue(token).unwrap(), "one");
}

#[tokio::test]
async fn metrics_are_defined_changed_and_read() {
    let mut guest = Mirror::new().await;
    let define = "proxy_define_metric";
    let mut ids = Vec::new();
    for (kind, name) in ["counter", "gauge", "histogram"].into_iter().enumerate() {
        assert_eq!(with(&mut guest, define, &[kind as i64], &[name], &[T]).await, OK);
        ids.push(i64::from(guest.u32(24)));
    }
    assert_eq!(with(&mut guest, define, &[3], &["x"], &[T]).await, BAD_ARGUMENT);
    assert_eq!(with(&mut guest, define, &[0], &[""], &[T]).await, BAD_ARGUMENT);
    assert_eq!(guest.call(define, &[0, WILD, 1, T]).await, INVALID_MEMORY);
    let big = i64::from(u32::MAX) + 1;
    assert_eq!(guest.call("proxy_increment_metric", &[ids[0], big]).await, OK);
    assert_eq!(
        guest.call("proxy_increment_metric", &[ids[0], -1]).await,
        BAD_ARGUMENT
    );
    assert_eq!(
        guest.call("proxy_increment_metric", &[ids[2], 1]).await,
        BAD_ARGUMENT
    );
    assert_eq!(guest.call("proxy_increment_metric", &[99, 1]).await, NOT_FOUND);
    assert_eq!(guest.call("proxy_record_metric", &[ids[2], 7]).await, OK);
    assert_eq!(guest.call("proxy_record_metric", &[99, 7]).await, NOT_FOUND);
    assert_eq!(guest.call("proxy_get_metric", &[ids[0], P]).await, OK);
    assert_eq!(guest.get(16, 8), big.to_le_bytes(), "all eight bytes");
    assert_eq!(guest.call("proxy_get_metric", &[99, P]).await, NOT_FOUND);
    assert_eq!(
        guest.call("proxy_get_metric", &[ids[0], WILD]).await,
        INVALID_MEMORY
    );
    assert_eq!(guest.guest().facts.shared.metrics().len(), 3);
}
