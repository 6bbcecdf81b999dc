//! What guests share, metrics and properties.

use super::*;

pub(super) async fn shared_things(ledger: &mut Ledger) {
    let out3 = || vec![Number(P), Number(N), Number(T)];
    ledger
        .is("get_shared_data", NOT_FOUND, &args([vec![Text("k")], out3()]))
        .await;
    ledger
        .is("set_shared_data", OK, &[Text("k"), Text("v"), Number(0)])
        .await;
    ledger
        .is(
            "set_shared_data",
            CAS_MISMATCH,
            &[Text("k"), Text("v"), Number(9)],
        )
        .await;
    ledger
        .is(
            "set_shared_data",
            INVALID_MEMORY,
            &args([WILD_TEXT.into(), vec![Text("v"), Number(0)]]),
        )
        .await;
    ledger
        .is("get_shared_data", OK, &args([vec![Text("k")], out3()]))
        .await;
    ledger
        .is(
            "get_shared_data",
            INVALID_MEMORY,
            &args([WILD_TEXT.into(), out3()]),
        )
        .await;
    let big = "x".repeat(100_000);
    let keys: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let shared = ledger.guest.guest().facts.shared.clone();
    let fits = |key: &String| shared.set(key.clone().into(), big.clone().into(), 0).is_ok();
    assert!(!keys.iter().all(fits), "it is full");
    ledger
        .is(
            "set_shared_data",
            INTERNAL,
            &[Text("more"), Text(&big), Number(0)],
        )
        .await;
    ledger
        .is(
            "resolve_shared_queue",
            NOT_FOUND,
            &[Text(""), Text("q"), Number(T)],
        )
        .await;
    ledger
        .is("register_shared_queue", OK, &[Text("q"), Number(T)])
        .await;
    let token = i64::from(ledger.guest.u32(24));
    ledger
        .is(
            "register_shared_queue",
            INVALID_MEMORY,
            &[Text("q"), Number(WILD)],
        )
        .await;
    ledger
        .is("resolve_shared_queue", OK, &[Text(""), Text("q"), Number(T)])
        .await;
    ledger
        .is(
            "resolve_shared_queue",
            INVALID_MEMORY,
            &args([WILD_TEXT.into(), vec![Text("q"), Number(T)]]),
        )
        .await;
    let dequeue = |token: i64, at: i64| vec![Number(token), Number(at), Number(N)];
    ledger.is("dequeue_shared_queue", EMPTY, &dequeue(token, P)).await;
    ledger
        .is("enqueue_shared_queue", OK, &[Number(token), Text("item")])
        .await;
    ledger
        .is("enqueue_shared_queue", NOT_FOUND, &[Number(99), Text("item")])
        .await;
    ledger
        .is(
            "enqueue_shared_queue",
            INVALID_MEMORY,
            &args([vec![Number(token)], WILD_TEXT.into()]),
        )
        .await;
    ledger
        .is("dequeue_shared_queue", INVALID_MEMORY, &dequeue(token, WILD))
        .await;
    ledger.is("dequeue_shared_queue", OK, &dequeue(token, P)).await;
    ledger
        .is("dequeue_shared_queue", NOT_FOUND, &dequeue(99, P))
        .await;
    while shared.enqueue(token as u32, big.clone().into()).is_ok() {}
    ledger
        .is("enqueue_shared_queue", INTERNAL, &[Number(token), Text(&big)])
        .await;
    let fits = |number: i32| {
        shared
            .register("vm".into(), number.to_string().into(), None)
            .is_ok()
    };
    assert!(!(0..10_000).all(fits), "there are too many");
    ledger
        .is("register_shared_queue", INTERNAL, &[Text("one more"), Number(T)])
        .await;
}

pub(super) async fn metrics_and_properties(ledger: &mut Ledger) {
    for kind in 0..3 {
        let name = kind.to_string();
        ledger
            .is("define_metric", OK, &[Number(kind), Text(&name), Number(T)])
            .await;
    }
    ledger
        .is("define_metric", BAD_ARGUMENT, &[Number(3), Text("x"), Number(T)])
        .await;
    ledger
        .is(
            "define_metric",
            INVALID_MEMORY,
            &[Number(0), Text("x"), Number(WILD)],
        )
        .await;
    for (id, status) in [(1, OK), (3, BAD_ARGUMENT), (99, NOT_FOUND)] {
        ledger
            .is("increment_metric", status, &[Number(id), Number(1)])
            .await;
        ledger.is("get_metric", status, &[Number(id), Number(P)]).await;
    }
    ledger
        .is("get_metric", INVALID_MEMORY, &[Number(1), Number(WILD)])
        .await;
    ledger.is("record_metric", OK, &[Number(3), Number(1)]).await;
    ledger
        .is("record_metric", NOT_FOUND, &[Number(99), Number(1)])
        .await;
    let shared = ledger.guest.guest().facts.shared.clone();
    let fits = |number: i32| {
        let name = format!("gauge {number}");
        shared.metrics.define(crate::shared::Kind::Gauge, name).is_ok()
    };
    assert!(!(0..1_000).all(fits), "there are too many");
    ledger
        .is("define_metric", INTERNAL, &[Number(1), Text("more"), Number(T)])
        .await;
    ledger
        .is("get_property", OK, &args([vec![Text("plugin_name")], OUT.into()]))
        .await;
    ledger
        .is("get_property", NOT_FOUND, &args([vec![Text("none")], OUT.into()]))
        .await;
    ledger
        .is(
            "get_property",
            INVALID_MEMORY,
            &args([WILD_TEXT.into(), OUT.into()]),
        )
        .await;
    ledger
        .is("set_property", NOT_FOUND, &[Text("plugin_name"), Text("x")])
        .await;
    ledger
        .is(
            "set_property",
            INVALID_MEMORY,
            &args([WILD_TEXT.into(), vec![Text("x")]]),
        )
        .await;
    for number in 0..100 {
        ledger
            .is("set_property", OK, &[Text(&number.to_string()), Text("x")])
            .await;
    }
    ledger
        .is("set_property", INTERNAL, &[Text("more"), Text("x")])
        .await;
}
