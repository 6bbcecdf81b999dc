//! The table of all host functions: each is called until it has answered every number that it can.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{guest::Done, mirror};

/// What every function of `env` answers. Where it is not what the specification lists, a comment says
/// why; a pointer that leads outside is 6 everywhere.
const ALL: &[(&str, &[u32])] = &[
    // Ends the guest.
    ("abort", &[]),
    ("emscripten_notify_memory_growth", &[0]),
    ("proxy_add_header_map_value", &[0, 2, 6]),
    ("proxy_call_foreign_function", &[0, 1, 6, 10]),
    ("proxy_clear_route_cache", &[0]),
    ("proxy_close_stream", &[0, 2]),
    // Without a request there is nothing that could go on.
    ("proxy_continue_request", &[0, 2]),
    ("proxy_continue_response", &[0, 2]),
    ("proxy_continue_stream", &[0, 2, 12]),
    // 10: there are too many.
    ("proxy_define_metric", &[0, 2, 6, 10]),
    ("proxy_dequeue_shared_queue", &[0, 1, 6, 7]),
    ("proxy_done", &[0, 1]),
    // 10: it is full.
    ("proxy_enqueue_shared_queue", &[0, 1, 6, 10]),
    ("proxy_get_buffer_bytes", &[0, 1, 2, 6]),
    ("proxy_get_buffer_status", &[0, 1, 2, 6]),
    ("proxy_get_configuration", &[0, 6]),
    ("proxy_get_current_time_nanoseconds", &[0, 6]),
    ("proxy_get_header_map_pairs", &[0, 2, 6]),
    ("proxy_get_header_map_size", &[0, 2, 6]),
    ("proxy_get_header_map_value", &[0, 1, 2, 6]),
    ("proxy_get_log_level", &[0, 6]),
    // 2: a histogram has no number.
    ("proxy_get_metric", &[0, 1, 2, 6]),
    // Values are bytes: none fails to be encoded (3).
    ("proxy_get_property", &[0, 1, 6]),
    ("proxy_get_shared_data", &[0, 1, 6]),
    ("proxy_get_state", &[0, 6, 10]),
    ("proxy_get_status", &[0, 6]),
    ("proxy_grpc_call", &[0, 4, 6, 10]),
    // 2: a token of something else.
    ("proxy_grpc_cancel", &[0, 1, 2]),
    ("proxy_grpc_close", &[0, 1, 2]),
    ("proxy_grpc_send", &[0, 1, 2, 6]),
    ("proxy_grpc_stream", &[0, 4, 6, 10]),
    ("proxy_http_call", &[0, 2, 6, 10]),
    ("proxy_increment_metric", &[0, 1, 2]),
    ("proxy_invoke_service", &[0, 6, 10]),
    ("proxy_log", &[0, 2, 6]),
    ("proxy_record_metric", &[0, 1]),
    // 10: there are too many.
    ("proxy_register_shared_queue", &[0, 6, 10]),
    ("proxy_remove_header_map_value", &[0, 2, 6]),
    ("proxy_replace_header_map_value", &[0, 2, 6]),
    ("proxy_resolve_shared_queue", &[0, 1, 6]),
    // 2: a status or headers that are none, or nothing to answer.
    ("proxy_send_local_response", &[0, 2, 6]),
    // 10: longer than the guest may have memory.
    ("proxy_set_buffer_bytes", &[0, 1, 2, 6, 10]),
    ("proxy_set_effective_context", &[0, 2]),
    ("proxy_set_header_map_pairs", &[0, 2, 6]),
    // 10: there are too many.
    ("proxy_set_property", &[0, 1, 6, 10]),
    // 10: there is too much.
    ("proxy_set_shared_data", &[0, 6, 8, 10]),
    ("proxy_set_tick_period_milliseconds", &[0]),
];

/// An argument, or two.
enum A<'a> {
    /// A number.
    N(i64),
    /// A text, by address and length.
    T(&'a str),
}

use A::{N as Number, T as Text};

/// A guest, and what its calls were answered.
struct Ledger {
    guest: Mirror,
    seen: BTreeMap<String, BTreeSet<u32>>,
}

impl Ledger {
    async fn new() -> Self {
        Self {
            guest: Mirror::new().await,
            seen: BTreeMap::new(),
        }
    }

    /// Calls `proxy_<name>`, and expects that it answers `status`.
    async fn is(&mut self, name: &str, status: u32, arguments: &[A<'_>]) {
        let name = format!("proxy_{name}");
        let (mut at, mut all) = (1000, Vec::new());
        for argument in arguments {
            match argument {
                Number(number) => all.push(*number),
                Text(text) => {
                    self.guest.put(at, text.as_bytes());
                    all.extend([at as i64, text.len() as i64]);
                    at += text.len();
                }
            }
        }
        let answer = self.guest.call(&name, &all).await;
        assert_eq!(answer, status, "{name}");
        self.seen.entry(name).or_default().insert(answer);
    }
}

fn list(pairs: &[(&str, &str)]) -> String {
    String::from_utf8(pairs::encode(pairs)).unwrap()
}

const OUT: [A<'static>; 2] = [Number(P), Number(N)];
const WILD_TEXT: [A<'static>; 2] = [Number(WILD), Number(1)];

fn args<'a>(parts: impl IntoIterator<Item = Vec<A<'a>>>) -> Vec<A<'a>> {
    parts.into_iter().flatten().collect()
}

async fn logs_and_time(ledger: &mut Ledger) {
    ledger.is("log", OK, &[Number(2), Text("line")]).await;
    ledger.is("log", BAD_ARGUMENT, &[Number(6), Text("line")]).await;
    ledger
        .is("log", INVALID_MEMORY, &[Number(2), Number(WILD), Number(1)])
        .await;
    for (at, status) in [(P, OK), (WILD, INVALID_MEMORY)] {
        ledger.is("get_log_level", status, &[Number(at)]).await;
        ledger
            .is("get_current_time_nanoseconds", status, &[Number(at)])
            .await;
        ledger
            .is("get_configuration", status, &[Number(at), Number(N)])
            .await;
        ledger
            .is("get_status", status, &[Number(at), Number(P), Number(N)])
            .await;
    }
    ledger.is("set_tick_period_milliseconds", OK, &[Number(1)]).await;
}

async fn buffers(ledger: &mut Ledger) {
    for (kind, status) in [(0, OK), (4, NOT_FOUND), (9, BAD_ARGUMENT)] {
        ledger
            .is(
                "get_buffer_bytes",
                status,
                &args([vec![Number(kind), Number(0), Number(9)], OUT.into()]),
            )
            .await;
        ledger
            .is("get_buffer_status", status, &[Number(kind), Number(P), Number(N)])
            .await;
        ledger
            .is(
                "set_buffer_bytes",
                status,
                &[Number(kind), Number(0), Number(0), Text("x")],
            )
            .await;
    }
    ledger
        .is(
            "get_buffer_bytes",
            INVALID_MEMORY,
            &[Number(0), Number(0), Number(9), Number(WILD), Number(N)],
        )
        .await;
    ledger
        .is(
            "get_buffer_status",
            INVALID_MEMORY,
            &[Number(0), Number(WILD), Number(N)],
        )
        .await;
    ledger
        .is(
            "set_buffer_bytes",
            INVALID_MEMORY,
            &[Number(0), Number(0), Number(0), Number(WILD), Number(1)],
        )
        .await;
    // Ten times a tenth of its memory, and a bit: the last does not fit.
    let length = 100_000;
    let mut last = OK;
    for _ in 0..11 {
        let put = [1, 0, 0, 1000, length];
        last = ledger.guest.call("proxy_set_buffer_bytes", &put).await;
    }
    assert_eq!(last, INTERNAL);
    ledger
        .seen
        .entry("proxy_set_buffer_bytes".to_owned())
        .or_default()
        .insert(last);
}

async fn maps(ledger: &mut Ledger) {
    for (map, status) in [(0, OK), (9, BAD_ARGUMENT)] {
        ledger
            .is("get_header_map_size", status, &[Number(map), Number(P)])
            .await;
        ledger
            .is(
                "get_header_map_pairs",
                status,
                &args([vec![Number(map)], OUT.into()]),
            )
            .await;
        ledger
            .is(
                "get_header_map_value",
                status,
                &args([vec![Number(map), Text(":path")], OUT.into()]),
            )
            .await;
        ledger
            .is(
                "add_header_map_value",
                status,
                &[Number(map), Text("a"), Text("b")],
            )
            .await;
        ledger
            .is(
                "replace_header_map_value",
                status,
                &[Number(map), Text("a"), Text("b")],
            )
            .await;
        ledger
            .is("remove_header_map_value", status, &[Number(map), Text("a")])
            .await;
    }
    ledger
        .is(
            "get_header_map_value",
            NOT_FOUND,
            &args([vec![Number(0), Text("none")], OUT.into()]),
        )
        .await;
    ledger
        .is(
            "set_header_map_pairs",
            OK,
            &[Number(2), Text(&list(&[("a", "b")]))],
        )
        .await;
    ledger
        .is(
            "set_header_map_pairs",
            BAD_ARGUMENT,
            &[Number(2), Text("no list")],
        )
        .await;
    let wild = |before: i64| vec![Number(before), Number(WILD), Number(1)];
    ledger
        .is("get_header_map_size", INVALID_MEMORY, &[Number(0), Number(WILD)])
        .await;
    ledger
        .is(
            "get_header_map_pairs",
            INVALID_MEMORY,
            &[Number(0), Number(WILD), Number(N)],
        )
        .await;
    ledger
        .is(
            "get_header_map_value",
            INVALID_MEMORY,
            &args([wild(0), OUT.into()]),
        )
        .await;
    for name in ["add_header_map_value", "replace_header_map_value"] {
        ledger
            .is(name, INVALID_MEMORY, &args([wild(0), vec![Text("b")]]))
            .await;
    }
    ledger
        .is("remove_header_map_value", INVALID_MEMORY, &wild(0))
        .await;
    ledger.is("set_header_map_pairs", INVALID_MEMORY, &wild(2)).await;
}

async fn streams(ledger: &mut Ledger) {
    let local = |status: i64, text: A<'static>| vec![Number(status), Text("why"), text, Text(""), Number(-1)];
    ledger
        .is("send_local_response", OK, &local(403, Text("no")))
        .await;
    ledger
        .is("send_local_response", BAD_ARGUMENT, &local(99, Text("no")))
        .await;
    let wild = [
        Number(403),
        Number(WILD),
        Number(1),
        Text("no"),
        Text(""),
        Number(-1),
    ];
    ledger.is("send_local_response", INVALID_MEMORY, &wild).await;
    for (stream, status) in [(0, OK), (1, OK), (2, UNIMPLEMENTED), (4, BAD_ARGUMENT)] {
        ledger.is("continue_stream", status, &[Number(stream)]).await;
    }
    ledger.is("continue_request", OK, &[]).await;
    ledger.is("continue_response", OK, &[]).await;
    ledger.is("clear_route_cache", OK, &[]).await;
    ledger.is("close_stream", OK, &[Number(0)]).await;
    ledger.is("close_stream", BAD_ARGUMENT, &[Number(2)]).await;
    ledger
        .is("set_effective_context", BAD_ARGUMENT, &[Number(9)])
        .await;
    ledger.is("set_effective_context", OK, &[Number(1)]).await;
    ledger.is("continue_request", BAD_ARGUMENT, &[]).await;
    ledger.is("continue_response", BAD_ARGUMENT, &[]).await;
    ledger.is("set_effective_context", OK, &[Number(2)]).await;
    ledger.is("done", NOT_FOUND, &[]).await;
    ledger.guest.guest().done = Done::Pending;
    ledger.is("done", OK, &[]).await;
}

async fn calls(ledger: &mut Ledger) {
    let head = list(&[(":method", "GET"), (":path", "/"), (":authority", "a")]);
    let call = |to: &'static str| vec![Text(to), Text(&head), Text(""), Text(""), Number(100), Number(T)];
    ledger.is("http_call", BAD_ARGUMENT, &call("forbidden")).await;
    for _ in 0..64 {
        ledger.is("http_call", OK, &call("c")).await;
    }
    ledger.is("http_call", INTERNAL, &call("c")).await;
    let wild = args([WILD_TEXT.into(), (0..8).map(Number).collect()]);
    ledger.is("http_call", INVALID_MEMORY, &wild).await;
    let http = i64::from(ledger.guest.u32(24));
    for name in ["grpc_close", "grpc_cancel"] {
        ledger.is(name, BAD_ARGUMENT, &[Number(http)]).await;
    }
    ledger.guest.guest().calls.hang_up();
}

async fn grpc(ledger: &mut Ledger) {
    let call = |to: &'static str| {
        let names = vec![Text(to), Text("a.B"), Text("C"), Text(""), Text("message")];
        args([names, vec![Number(100), Number(T)]])
    };
    let stream = |to: &'static str| vec![Text(to), Text("a.B"), Text("C"), Text(""), Number(T)];
    ledger.is("grpc_call", PARSE, &call("forbidden")).await;
    ledger.is("grpc_stream", PARSE, &stream("forbidden")).await;
    ledger.is("grpc_call", OK, &call("c")).await;
    let token = i64::from(ledger.guest.u32(24));
    let send = |token: i64| vec![Number(token), Text("x"), Number(0)];
    ledger.is("grpc_send", BAD_ARGUMENT, &send(token)).await;
    ledger.is("grpc_stream", OK, &stream("c")).await;
    let token = i64::from(ledger.guest.u32(24));
    ledger.is("grpc_send", OK, &send(token)).await;
    ledger.is("grpc_close", OK, &[Number(token)]).await;
    ledger.is("grpc_cancel", OK, &[Number(token)]).await;
    ledger.is("grpc_send", NOT_FOUND, &send(token)).await;
    ledger.is("grpc_close", NOT_FOUND, &[Number(token)]).await;
    ledger.is("grpc_cancel", NOT_FOUND, &[Number(token)]).await;
    let wild = args([vec![Number(token)], WILD_TEXT.into(), vec![Number(0)]]);
    ledger.is("grpc_send", INVALID_MEMORY, &wild).await;
    for (name, zeros) in [("grpc_call", 10), ("grpc_stream", 7)] {
        let zeros = (0..zeros).map(Number).collect();
        ledger
            .is(name, INVALID_MEMORY, &args([WILD_TEXT.into(), zeros]))
            .await;
    }
    for _ in 0..63 {
        ledger.is("grpc_stream", OK, &stream("c")).await;
    }
    ledger.is("grpc_stream", INTERNAL, &stream("c")).await;
    ledger.is("grpc_call", INTERNAL, &call("c")).await;
    ledger.guest.guest().calls.hang_up();
}

async fn shared_things(ledger: &mut Ledger) {
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

async fn metrics_and_properties(ledger: &mut Ledger) {
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

async fn layotto(ledger: &mut Ledger) {
    for (key, status) in [("k", OK), ("broken", INTERNAL)] {
        ledger
            .is(
                "get_state",
                status,
                &args([vec![Text("s"), Text(key)], OUT.into()]),
            )
            .await;
        let invoke = vec![
            Text(if status == OK { "id" } else { "broken" }),
            Text("m"),
            Text("param"),
        ];
        ledger
            .is("invoke_service", status, &args([invoke, OUT.into()]))
            .await;
    }
    ledger
        .is(
            "get_state",
            INVALID_MEMORY,
            &args([WILD_TEXT.into(), vec![Text("k")], OUT.into()]),
        )
        .await;
    let wild = args([WILD_TEXT.into(), vec![Text("m"), Text("param")], OUT.into()]);
    ledger.is("invoke_service", INVALID_MEMORY, &wild).await;
    for (name, status) in [
        ("layotto.SayHello", OK),
        ("other", NOT_FOUND),
        ("layotto.Broken", INTERNAL),
    ] {
        ledger
            .is(
                "call_foreign_function",
                status,
                &args([vec![Text(name), Text("")], OUT.into()]),
            )
            .await;
    }
    let wild = args([WILD_TEXT.into(), vec![Text("")], OUT.into()]);
    ledger.is("call_foreign_function", INVALID_MEMORY, &wild).await;
}

#[tokio::test]
async fn every_host_function_has_answered_each_of_its_numbers() {
    let mut ledger = Ledger::new().await;
    logs_and_time(&mut ledger).await;
    maps(&mut ledger).await;
    streams(&mut ledger).await;
    calls(&mut ledger).await;
    grpc(&mut ledger).await;
    shared_things(&mut ledger).await;
    metrics_and_properties(&mut ledger).await;
    layotto(&mut ledger).await;
    buffers(&mut ledger).await;
    let growth = ledger.guest.call("emscripten_notify_memory_growth", &[0]).await;
    ledger
        .seen
        .entry("emscripten_notify_memory_growth".to_owned())
        .or_default()
        .insert(growth);
    assert!(ledger.guest.try_call("abort", &[0, 0, 0, 0]).await.is_err());
    ledger.seen.entry("abort".to_owned()).or_default();
    let expected: BTreeMap<String, BTreeSet<u32>> = ALL
        .iter()
        .map(|(name, statuses)| ((*name).to_owned(), statuses.iter().copied().collect()))
        .collect();
    assert_eq!(ledger.seen, expected);
    let there = linked(&mut ledger.guest);
    let named: BTreeSet<String> = expected.into_keys().collect();
    assert_eq!(
        there, named,
        "host functions without a row, or rows without a function"
    );
}

/// The host functions of `env`.
fn linked(guest: &mut Mirror) -> BTreeSet<String> {
    let (store, _) = guest.instance.parts();
    let engine = store.engine().clone();
    let mut linker = wasmtime::Linker::new(&engine);
    crate::hostcalls::link(&mut linker).unwrap();
    let functions = mirror::functions(&linker, store);
    functions.into_iter().map(|(_, name, ..)| name).collect()
}
