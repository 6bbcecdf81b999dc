//! Calls and streams of gRPC.

use super::*;
use crate::grpc::Event;

/// Begins a stream to a method; the answer is the host's.
async fn stream(guest: &mut Mirror, cluster: &str, service: &str, method: &str) -> u32 {
    let texts = [cluster, service, method, ""];
    with(guest, "proxy_grpc_stream", &[], &texts, &[T]).await
}

/// Calls a method with a message.
async fn call(guest: &mut Mirror, method: &str, metadata: &str, message: &str) -> u32 {
    let texts = ["c", "a.B", method, metadata, message];
    with(guest, "proxy_grpc_call", &[], &texts, &[1000, T]).await
}

async fn send(guest: &mut Mirror, token: u32, message: &str, last: i64) -> u32 {
    with(guest, "proxy_grpc_send", &[token.into()], &[message], &[last]).await
}

/// Lets the guest hear what comes next; what that was, as `token name number`.
async fn hears(guest: &mut Mirror) -> String {
    let heard = guest.guest().calls.next().await.unwrap();
    let text = match &heard.what {
        crate::calls::What::Grpc(Event::Initial(list)) => format!("initial {}", list.0.len()),
        crate::calls::What::Grpc(Event::Message(message)) => String::from_utf8_lossy(message).into_owned(),
        crate::calls::What::Grpc(Event::Trailing(list)) => format!("trailing {}", list.0.len()),
        crate::calls::What::Grpc(Event::Closed(closed)) => format!("closed {}", closed.status),
        crate::calls::What::Http(_) => panic!("no such call"),
    };
    let text = format!("{} {text}", heard.token);
    guest.instance.hears(heard).await.unwrap();
    text
}

#[tokio::test]
async fn they_go_to_a_cluster_that_is_there_and_allowed_and_to_a_name() {
    let mut guest = Mirror::new().await;
    assert_eq!(stream(&mut guest, "c", "a.B", "C").await, OK);
    for (cluster, service, method) in [
        ("nowhere", "a.B", "C"),
        ("forbidden", "a.B", "C"),
        ("\n\x0b\n\tforbidden", "a.B", "C"),
        ("c", "", "C"),
        ("c", "a.B", ""),
        ("c", "a/B", "C"),
        ("c", "a.B", "C?d"),
    ] {
        assert_eq!(
            stream(&mut guest, cluster, service, method).await,
            PARSE,
            "{cluster} {service} {method}"
        );
    }
    assert_eq!(call(&mut guest, "C", "no list", "").await, PARSE);
    // Envoy's way of naming a cluster.
    assert_eq!(stream(&mut guest, "\n\x03\n\x01c", "a.B", "D").await, OK);
    assert_eq!(*guest.host.asked.lock().unwrap(), ["grpc a.B/C", "grpc a.B/D"]);
}

#[tokio::test]
async fn a_call_has_one_answer() {
    let mut guest = Mirror::new().await;
    assert_eq!(call(&mut guest, "Echo", "", "hello").await, OK);
    assert_eq!(hears(&mut guest).await, "1 hello");
    assert!(guest.guest().calls.is_empty());
    assert_eq!(guest.call("proxy_get_status", &[T, P, N]).await, OK);
    assert_eq!(guest.u32(24), 0);
    assert_eq!(call(&mut guest, "Refused", "", "hello").await, OK);
    assert_eq!(hears(&mut guest).await, "2 closed 7");
    assert_eq!(guest.call("proxy_get_status", &[T, P, N]).await, OK);
    assert_eq!(
        (guest.u32(24), guest.given(16, 20)),
        (7, "not for you".to_owned())
    );
    assert_eq!(guest.call("proxy_grpc_cancel", &[2]).await, NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_call_and_a_silent_stream_of_a_request_end_in_time() {
    let mut guest = Mirror::new().await;
    assert_eq!(call(&mut guest, "Never", "", "").await, OK);
    assert_eq!(hears(&mut guest).await, "1 closed 4");
    assert_eq!(stream(&mut guest, "c", "a.B", "Never").await, OK);
    assert_eq!(hears(&mut guest).await, "2 initial 0");
    assert_eq!(hears(&mut guest).await, "2 closed 4");
}

#[tokio::test]
async fn a_stream_tells_of_everything_until_its_end() {
    let mut guest = Mirror::new().await;
    assert_eq!(stream(&mut guest, "c", "a.B", "Echo").await, OK);
    assert_eq!(hears(&mut guest).await, "1 initial 0");
    for text in ["one", "two"] {
        assert_eq!(send(&mut guest, 1, text, 0).await, OK);
        assert_eq!(hears(&mut guest).await, format!("1 {text}"));
    }
    assert_eq!(send(&mut guest, 1, "three", 1).await, OK);
    assert_eq!(
        send(&mut guest, 1, "four", 0).await,
        BAD_ARGUMENT,
        "after the last"
    );
    assert_eq!(guest.call("proxy_grpc_close", &[1]).await, OK, "as it is");
    for told in ["1 three", "1 trailing 1", "1 closed 0"] {
        assert_eq!(hears(&mut guest).await, told);
    }
    assert_eq!(guest.call("proxy_grpc_close", &[1]).await, NOT_FOUND);
    assert!(guest.guest().calls.is_empty());
}

#[tokio::test]
async fn a_stream_ends_without_a_last_message_too() {
    for close in ["proxy_grpc_close", "proxy_grpc_send"] {
        let mut guest = Mirror::new().await;
        assert_eq!(stream(&mut guest, "c", "a.B", "Echo").await, OK);
        let closed = match close {
            "proxy_grpc_close" => guest.call(close, &[1]).await,
            _ => guest.call(close, &[1, 0, 0, 1]).await,
        };
        assert_eq!(closed, OK);
        for told in ["1 initial 0", "1 trailing 1", "1 closed 0"] {
            assert_eq!(hears(&mut guest).await, told, "{close}");
        }
    }
}

#[tokio::test]
async fn what_is_cancelled_is_not_heard_of() {
    let mut guest = Mirror::new().await;
    assert_eq!(stream(&mut guest, "c", "a.B", "Echo").await, OK);
    assert_eq!(call(&mut guest, "Echo", "", "").await, OK);
    assert_eq!(hears(&mut guest).await, "1 initial 0");
    assert_eq!(guest.call("proxy_grpc_cancel", &[1]).await, OK);
    assert_eq!(
        guest.call("proxy_grpc_close", &[2]).await,
        OK,
        "a call is given up"
    );
    assert!(guest.guest().calls.next().await.is_none());
}

#[tokio::test]
async fn messages_that_nobody_takes_are_bounded() {
    let mut guest = Mirror::new().await;
    assert_eq!(stream(&mut guest, "c", "a.B", "Echo").await, OK);
    let large = "x".repeat(100_000);
    let mut fit = 0;
    while send(&mut guest, 1, &large, 0).await == OK {
        fit += 1;
    }
    assert_eq!(fit, 10, "of a memory of 1 MiB");
    assert_eq!(call(&mut guest, "Echo", "", &large).await, INTERNAL);
    assert_eq!(hears(&mut guest).await, "1 initial 0");
    assert_eq!(hears(&mut guest).await, format!("1 {large}"));
    assert_eq!(send(&mut guest, 1, &large, 0).await, OK, "one was taken");
    assert_eq!(send(&mut guest, 1, &large, 0).await, BAD_ARGUMENT);
    assert_eq!(stream(&mut guest, "c", "a.B", "Echo").await, OK);
    let mut few = 0;
    while send(&mut guest, 2, "", 0).await == OK {
        few += 1;
    }
    assert_eq!(few, 64, "messages of no bytes count, too");
}

#[tokio::test]
async fn messages_and_metadata_are_there_while_they_are_told_of() {
    let own = format!(
        r#"{ALLOCATOR}
        (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
            (i32.store (i32.const 100) (call $host_proxy_get_header_map_size (i32.const 4) (i32.const 104)))
            (i32.store (i32.const 108) (call $host_proxy_remove_header_map_value
                (i32.const 4) (i32.const 1000) (i32.const 1))))
        (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
            (i32.store (i32.const 112) (call $host_proxy_get_buffer_bytes
                (i32.const 5) (i32.const 0) (i32.const 100) (i32.const 116) (i32.const 120))))
        (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
            (i32.store (i32.const 124) (call $host_proxy_get_header_map_size (i32.const 5) (i32.const 128))))
        (func (export "proxy_on_grpc_close") (param i32 i32 i32)
            (i32.store (i32.const 132) (call $host_proxy_grpc_close (local.get 1))))"#
    );
    let mut guest = Mirror::with(&own).await;
    assert_eq!(stream(&mut guest, "c", "a.B", "Echo").await, OK);
    assert_eq!(send(&mut guest, 1, "hello", 1).await, OK);
    for _ in 0..4 {
        hears(&mut guest).await;
    }
    assert_eq!(
        (guest.u32(100), guest.u32(108)),
        (OK, BAD_ARGUMENT),
        "to be read only"
    );
    assert_eq!((guest.u32(112), guest.given(116, 120)), (OK, "hello".to_owned()));
    let size = pairs::encode(&[("t", "u")]).len();
    assert_eq!((guest.u32(124), guest.u32(128) as usize), (OK, size));
    assert_eq!(guest.u32(132), OK, "its token is good until it was told");
    for (name, kind) in [("size", 4), ("size", 5)] {
        let name = format!("proxy_get_header_map_{name}");
        assert_eq!(guest.call(&name, &[kind, P]).await, BAD_ARGUMENT, "afterwards");
    }
    assert_eq!(
        guest.call("proxy_get_buffer_bytes", &[5, 0, 9, P, N]).await,
        NOT_FOUND
    );
}
