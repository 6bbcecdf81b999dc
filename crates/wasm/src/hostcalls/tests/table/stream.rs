//! What concerns a request and its reply.

use super::*;
use crate::guest::Done;

pub(super) async fn logs_and_time(ledger: &mut Ledger) {
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

pub(super) async fn buffers(ledger: &mut Ledger) {
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

pub(super) async fn maps(ledger: &mut Ledger) {
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

pub(super) async fn streams(ledger: &mut Ledger) {
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
