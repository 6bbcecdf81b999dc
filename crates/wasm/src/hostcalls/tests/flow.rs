//! Streams, contexts, calls, Layotto's extensions.

use super::*;
use crate::guest::Done;

#[tokio::test]
async fn streams_are_continued_and_closed() {
    let mut guest = Mirror::new().await;
    let next = "proxy_continue_stream";
    assert_eq!(guest.call(next, &[1]).await, OK);
    assert!(!guest.guest().stream().unwrap().continued);
    assert_eq!(guest.call(next, &[0]).await, OK);
    assert!(guest.guest().stream().unwrap().continued);
    assert_eq!(guest.call(next, &[2]).await, UNIMPLEMENTED);
    assert_eq!(guest.call(next, &[3]).await, UNIMPLEMENTED);
    assert_eq!(guest.call(next, &[4]).await, BAD_ARGUMENT);
    assert_eq!(guest.call("proxy_close_stream", &[4]).await, BAD_ARGUMENT);
    assert_eq!(guest.call("proxy_close_stream", &[0]).await, OK);
    assert!(guest.guest().stream().unwrap().closed);
    guest.guest().stream = None;
    assert_eq!(guest.call(next, &[0]).await, BAD_ARGUMENT);
    assert_eq!(guest.call("proxy_close_stream", &[0]).await, BAD_ARGUMENT);
}

#[tokio::test]
async fn guests_of_the_oldest_version_continue_by_other_names() {
    let mut guest = Mirror::new().await;
    assert_eq!(guest.call("proxy_continue_response", &[]).await, OK);
    assert_eq!(guest.call("proxy_clear_route_cache", &[]).await, OK);
    assert_eq!(guest.call("proxy_continue_request", &[]).await, OK);
    assert!(guest.guest().stream().unwrap().continued);
}

#[tokio::test]
async fn a_context_is_done_only_if_it_was_asked() {
    let mut guest = Mirror::new().await;
    assert_eq!(guest.call("proxy_done", &[]).await, NOT_FOUND);
    guest.guest().done = Done::Pending;
    assert_eq!(guest.call("proxy_done", &[]).await, OK);
    assert_eq!(guest.call("proxy_done", &[]).await, NOT_FOUND);
}

#[tokio::test]
async fn the_first_local_response_counts() {
    let mut guest = Mirror::new().await;
    let headers = String::from_utf8(pairs::encode(&[("a", "b")])).unwrap();
    let mut send = async |status, headers: &str| {
        with(
            &mut guest,
            "proxy_send_local_response",
            &[status],
            &["why", "text", headers],
            &[0],
        )
        .await
    };
    assert_eq!(send(199, "").await, BAD_ARGUMENT);
    assert_eq!(send(403, "xx").await, BAD_ARGUMENT);
    assert_eq!(send(403, &headers).await, OK);
    assert_eq!(send(500, "").await, OK);
    let local = guest.guest().stream().unwrap().local.clone().unwrap();
    assert_eq!((local.status, &local.body[..]), (403, &b"text"[..]));
    assert_eq!(local.headers.get(b"a").unwrap(), "b");
    let wild = [200, 1000, 0, WILD, 1, 1000, 0, 0];
    assert_eq!(
        guest.call("proxy_send_local_response", &wild).await,
        INVALID_MEMORY
    );
    guest.guest().stream = None;
    let empty = [200, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        guest.call("proxy_send_local_response", &empty).await,
        BAD_ARGUMENT
    );
}

#[tokio::test]
async fn the_timer_is_set_and_stopped() {
    let mut guest = Mirror::new().await;
    assert_eq!(guest.call("proxy_set_tick_period_milliseconds", &[250]).await, OK);
    assert_eq!(guest.guest().tick.unwrap().as_millis(), 250);
    assert_eq!(guest.call("proxy_set_tick_period_milliseconds", &[0]).await, OK);
    assert_eq!(guest.guest().tick, None);
}

#[tokio::test]
async fn the_time_is_nanoseconds_in_all_eight_bytes() {
    let mut guest = Mirror::new().await;
    guest.put(16, &[0xff; 8]);
    assert_eq!(guest.call("proxy_get_current_time_nanoseconds", &[P]).await, OK);
    let time = u64::from_le_bytes(guest.get(16, 8).try_into().unwrap());
    let year = 1970 + time / 1_000_000_000 / 31_556_952;
    assert!((2024..2200).contains(&year), "{year}");
    assert_eq!(
        guest.call("proxy_get_current_time_nanoseconds", &[WILD]).await,
        INVALID_MEMORY
    );
}

#[tokio::test]
async fn the_status_of_the_last_call_can_be_asked() {
    let mut guest = Mirror::new().await;
    guest.guest().status = (14, "away".to_owned());
    assert_eq!(guest.call("proxy_get_status", &[T, P, N]).await, OK);
    assert_eq!((guest.u32(24), guest.given(16, 20)), (14, "away".to_owned()));
    assert_eq!(
        guest.call("proxy_get_status", &[WILD, P, N]).await,
        INVALID_MEMORY
    );
}

fn call(path: &str) -> String {
    String::from_utf8(pairs::encode(&[
        (":method", "GET"),
        (":path", path),
        (":authority", "a"),
    ]))
    .unwrap()
}

#[tokio::test]
async fn a_call_goes_to_a_cluster_that_is_there_and_allowed() {
    let mut guest = Mirror::new().await;
    let mut send = async |cluster: &str, headers: &str| {
        with(
            &mut guest,
            "proxy_http_call",
            &[],
            &[cluster, headers, "body", ""],
            &[1000, T],
        )
        .await
    };
    assert_eq!(send("nowhere", &call("/")).await, BAD_ARGUMENT);
    assert_eq!(send("forbidden", &call("/")).await, BAD_ARGUMENT);
    assert_eq!(send("c", "").await, BAD_ARGUMENT, "without its pseudo headers");
    assert_eq!(send("c", "xx").await, BAD_ARGUMENT, "no list");
    for _ in 0..64 {
        assert_eq!(send("c", &call("/")).await, OK);
    }
    assert_eq!(send("c", &call("/")).await, INTERNAL, "too many at a time");
    assert_eq!(guest.u32(24), 64, "tokens count from 1");
    let wild = [WILD, 1, 0, 0, 0, 0, 0, 0, 0, T];
    assert_eq!(guest.call("proxy_http_call", &wild).await, INVALID_MEMORY);
    let wild = [0, 0, 0, 0, 0, 0, 0, 0, 0, WILD];
    assert_eq!(guest.call("proxy_http_call", &wild).await, INVALID_MEMORY);
}

#[tokio::test]
async fn state_is_read_from_a_store_that_is_allowed() {
    let mut guest = Mirror::new().await;
    let get = "proxy_get_state";
    assert_eq!(with(&mut guest, get, &[], &["s", "k"], &[P, N]).await, OK);
    assert_eq!(guest.given(16, 20), "value of k");
    assert_eq!(with(&mut guest, get, &[], &["s", "missing"], &[P, N]).await, OK);
    assert_eq!(guest.given(16, 20), "");
    assert_eq!(
        with(&mut guest, get, &[], &["s", "broken"], &[P, N]).await,
        INTERNAL
    );
    assert_eq!(
        with(&mut guest, get, &[], &["other", "k"], &[P, N]).await,
        INTERNAL
    );
    assert_eq!(guest.call(get, &[WILD, 1, 1000, 1, P, N]).await, INVALID_MEMORY);
    assert_eq!(
        guest.call(get, &[1000, 1, 1001, 0, WILD, N]).await,
        INTERNAL,
        "an empty name is no store"
    );
    let asked = guest.host.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        ["state s k", "state s missing", "state s broken"],
        "the other store is not asked"
    );
    let lines = guest.host.lines().join("\n");
    assert!(
        lines.contains("proxy_get_state: broken") && lines.contains("do not allow \"other\""),
        "{lines}"
    );
}

#[tokio::test]
async fn a_service_is_invoked() {
    let mut guest = Mirror::new().await;
    let invoke = "proxy_invoke_service";
    assert_eq!(
        with(&mut guest, invoke, &[], &["id", "m", "param"], &[P, N]).await,
        OK
    );
    assert_eq!(guest.given(16, 20), "param");
    assert_eq!(
        with(&mut guest, invoke, &[], &["broken", "m", "param"], &[P, N]).await,
        INTERNAL
    );
    assert_eq!(
        with(&mut guest, invoke, &[], &["id", "m", "param"], &[P, WILD]).await,
        INVALID_MEMORY
    );
    assert_eq!(
        *guest.host.asked.lock().unwrap(),
        ["invoke id m", "invoke broken m"]
    );
}

#[tokio::test]
async fn methods_of_the_runtime_are_foreign_functions() {
    let mut guest = Mirror::new().await;
    let call = "proxy_call_foreign_function";
    assert_eq!(
        with(&mut guest, call, &[], &["layotto.SayHello", "you"], &[P, N]).await,
        OK
    );
    assert_eq!(guest.given(16, 20), "hello you");
    assert_eq!(
        with(&mut guest, call, &[], &["layotto.SayHello", "you"], &[0, 0]).await,
        OK,
        "not wanted"
    );
    assert_eq!(
        with(&mut guest, call, &[], &["layotto.Unheard", ""], &[P, N]).await,
        NOT_FOUND
    );
    assert_eq!(
        with(&mut guest, call, &[], &["other", ""], &[P, N]).await,
        NOT_FOUND
    );
    assert_eq!(
        with(&mut guest, call, &[], &["layotto.Broken", ""], &[P, N]).await,
        INTERNAL
    );
    assert_eq!(
        with(&mut guest, call, &[], &["layotto.SaveState", ""], &[P, N]).await,
        INTERNAL,
        "not allowed"
    );
    assert_eq!(guest.call(call, &[1000, 1, WILD, 1, P, N]).await, INVALID_MEMORY);
    assert_eq!(
        guest.call(call, &[1000, 1, 1000, 1, P, WILD]).await,
        INVALID_MEMORY
    );
}

#[tokio::test]
async fn the_abort_of_assemblyscript_says_where() {
    let mut guest = Mirror::new().await;
    guest.put(1000, b"\x04\0\0\0n\0o\0");
    guest.put(1016, b"\x02\0\0\0f\0");
    let error = guest.try_call("abort", &[1004, 1020, 3, 7]).await.unwrap_err();
    assert_eq!(error.root_cause().to_string(), "abort: no at f:3:7");
}
