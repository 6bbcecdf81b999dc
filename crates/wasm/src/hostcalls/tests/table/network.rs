//! Calls over the network, and what Layotto adds.

use super::*;

pub(super) async fn calls(ledger: &mut Ledger) {
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

pub(super) async fn grpc(ledger: &mut Ledger) {
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

pub(super) async fn layotto(ledger: &mut Ledger) {
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
