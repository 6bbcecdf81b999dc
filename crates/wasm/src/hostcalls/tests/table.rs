//! The table of all host functions: each is called until it has answered every number that it can.

mod network;
mod stream;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::mirror;

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

#[tokio::test]
async fn every_host_function_has_answered_each_of_its_numbers() {
    let mut ledger = Ledger::new().await;
    stream::logs_and_time(&mut ledger).await;
    stream::maps(&mut ledger).await;
    stream::streams(&mut ledger).await;
    network::calls(&mut ledger).await;
    network::grpc(&mut ledger).await;
    world::shared_things(&mut ledger).await;
    world::metrics_and_properties(&mut ledger).await;
    network::layotto(&mut ledger).await;
    stream::buffers(&mut ledger).await;
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
