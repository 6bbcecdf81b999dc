//! Callers of other services; those that speak HTTP are tried against a service of the test.

use std::time::{Duration, Instant};

use bytes::Bytes;
use layotto_core::{
    ErrorKind::{Timeout, Unavailable},
    rpc::{Invoker, Request, Response},
};

use super::{
    Assertion, DEADLINE, Subject, Verified, assertions,
    check::{OrSay, ensure, equal, fails, within},
    common,
};
use crate::http_server::{HttpService, Received};

type Caller = Subject<dyn Invoker>;

/// The assertions of a caller of services.
pub fn assertions() -> Vec<Assertion<dyn Invoker>> {
    let own: Vec<Assertion<dyn Invoker>> = assertions! {
        http => [
            verb_path_and_query_are_sent,
            a_call_without_a_verb_is_a_get,
            body_and_answer_come_through,
            headers_are_passed_on,
            the_answer_has_its_headers,
            binary_and_large_answers_come_through,
            two_hundreds_succeed,
            other_statuses_are_unavailable,
            a_slow_service_times_out,
            a_closed_connection_is_unavailable,
            a_line_break_cannot_add_a_header,
            concurrent_calls_keep_their_answers,
            a_dropped_call_leaves_the_caller_usable,
        ],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn http(caller: &Caller) -> Option<&'static str> {
    caller.fixture.http.is_none().then_some("does not speak HTTP")
}

fn request(verb: &str, method: &str, data: &'static str) -> Request {
    Request {
        id: "svc".to_owned(),
        method: method.to_owned(),
        verb: verb.to_owned(),
        query: String::new(),
        content_type: String::new(),
        headers: Vec::new(),
        data: Bytes::from(data),
        timeout: DEADLINE,
    }
}

impl Caller {
    fn service(&self) -> Result<&HttpService, String> {
        self.fixture
            .http
            .as_ref()
            .ok_or_else(|| "the fixture has no service".to_owned())
    }

    fn path(&self, part: &str) -> String {
        format!("/{}", self.name(part))
    }

    async fn call(&self, request: Request) -> Result<Response, String> {
        let tried = format!("{} {}", request.verb, request.method);
        within(DEADLINE, &tried, self.invoke(request))
            .await?
            .or_say(&tried)
    }

    async fn received(&self, path: &str) -> Result<Received, String> {
        let arrived = self.service()?.request_to(path, DEADLINE).await;
        arrived.ok_or_else(|| format!("the service got no request to {path}"))
    }
}

async fn verb_path_and_query_are_sent(caller: Caller) -> Verified {
    for verb in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
    ] {
        let path = caller.path(verb);
        let call = Request {
            query: "a=b&c=d".to_owned(),
            ..request(verb, &path, "")
        };
        caller.call(call).await?;
        let received = caller.received(&path).await?;
        equal("verb", &received.method.as_str(), &verb)?;
        equal("target", &received.target, &format!("{path}?a=b&c=d"))?;
    }
    let bare = caller.name("bare");
    caller.call(request("GET", &bare, "")).await?;
    caller.received(&format!("/{bare}")).await.map(drop)
}

async fn a_call_without_a_verb_is_a_get(caller: Caller) -> Verified {
    for verb in ["", "NONE"] {
        let path = caller.path(&format!("verb{verb}"));
        caller.call(request(verb, &path, "x")).await?;
        equal("verb", &caller.received(&path).await?.method.as_str(), &"GET")?;
    }
    Ok(())
}

async fn body_and_answer_come_through(caller: Caller) -> Verified {
    let path = caller.path("p");
    let call = Request {
        content_type: "text/x".to_owned(),
        ..request("POST", &path, "body")
    };
    let answer = caller.call(call).await?;
    equal("answer", &answer.data, &Bytes::from("echo:body"))?;
    equal(
        "content type of the answer",
        &answer.content_type.as_str(),
        &"text/plain; charset=utf-8",
    )?;
    let received = caller.received(&path).await?;
    equal("body", &received.body, &Bytes::from("body"))?;
    equal("id", &received.header("id"), &Some("svc"))?;
    equal("content type", &received.header("content-type"), &Some("text/x"))
}

async fn headers_are_passed_on(caller: Caller) -> Verified {
    let path = caller.path("p");
    let headers = [
        ("x-one", "1"),
        ("x-many", "a"),
        ("x-many", "b"),
        ("grpc-timeout", "1S"),
        (":authority", "h"),
    ];
    let call = Request {
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..request("POST", &path, "x")
    };
    caller.call(call).await?;
    let received = caller.received(&path).await?;
    equal("x-one", &received.header("x-one"), &Some("1"))?;
    equal(
        "x-many",
        &received
            .header_values("x-many")
            .join(",")
            .replace(' ', "")
            .as_str(),
        &"a,b",
    )?;
    for name in ["grpc-timeout", ":authority"] {
        equal(name, &received.header(name), &None)?;
    }
    Ok(())
}

async fn the_answer_has_its_headers(caller: Caller) -> Verified {
    let answer = caller.call(request("GET", "/hdrs", "")).await?;
    let values = |name: &str| {
        let found = answer.headers.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    equal("x-up", &values("x-up"), &vec!["yes"])?;
    equal("x-upper-case", &values("x-upper-case"), &vec!["V"])?;
    ensure!(
        values("x-multi").contains(&"b"),
        "x-multi is {:?}",
        values("x-multi")
    );
    Ok(())
}

async fn binary_and_large_answers_come_through(caller: Caller) -> Verified {
    let answer = caller.call(request("GET", "/bin", "")).await?;
    equal("answer", &answer.data, &(0..=255).collect::<Vec<u8>>().into())?;
    let answer = caller.call(request("GET", "/big", "")).await?;
    equal("length of a large answer", &answer.data.len(), &200_000)?;
    let answer = caller.call(request("GET", "/empty", "")).await?;
    equal("length of an empty answer", &answer.data.len(), &0)
}

async fn two_hundreds_succeed(caller: Caller) -> Verified {
    for status in [200, 201, 204, 299] {
        caller
            .call(request("GET", &format!("/status/{status}"), ""))
            .await?;
    }
    Ok(())
}

async fn other_statuses_are_unavailable(caller: Caller) -> Verified {
    for status in [302, 400, 404, 500, 503] {
        let path = format!("/status/{status}");
        match caller.invoke(request("GET", &path, "")).await {
            Err(error) => {
                equal(
                    &format!("error kind of status {status}"),
                    &error.kind(),
                    &Unavailable,
                )?;
                let wanted = format!("http response code {status}, body: st {status}");
                equal("error text", &error.message(), &wanted.as_str())?;
            }
            Ok(answer) => return Err(format!("status {status} succeeded with {answer:?}")),
        }
    }
    Ok(())
}

async fn a_slow_service_times_out(caller: Caller) -> Verified {
    let started = Instant::now();
    let call = Request {
        timeout: Duration::from_millis(300),
        ..request("GET", "/slow", "")
    };
    fails("a slow call", caller.invoke(call).await, &[Timeout])?;
    ensure!(
        started.elapsed() < Duration::from_secs(3),
        "a time-out of 300 ms took {:?}",
        started.elapsed()
    );
    let patient = caller.call(request("GET", "/slow1", "")).await?;
    equal("answer after 1 s", &patient.data, &Bytes::from("echo:"))
}

async fn a_closed_connection_is_unavailable(caller: Caller) -> Verified {
    let result = caller.invoke(request("GET", "/close", "")).await;
    fails("a connection closed without an answer", result, &[Unavailable])?;
    caller.call(request("GET", "/json", "")).await.map(drop)
}

async fn a_line_break_cannot_add_a_header(caller: Caller) -> Verified {
    let evil = " HTTP/1.1\r\nX-Evil: 1\r\nX-Rest: ";
    let path = caller.path("p");
    let by_query = Request {
        query: format!("a=b{evil}"),
        ..request("GET", &path, "")
    };
    let by_header = Request {
        headers: vec![("x-one".to_owned(), "1\r\nX-Evil: 1".to_owned())],
        ..request("GET", &path, "")
    };
    let by_id = Request {
        id: "svc\r\nX-Evil: 1".to_owned(),
        ..request("GET", &path, "")
    };
    let by_verb = request("GET / HTTP/1.1\r\nX-Evil: 1\r\nX-Rest:", &path, "");
    for call in [
        by_query,
        by_header,
        by_id,
        by_verb,
        request("GET", &format!("{path}{evil}"), ""),
    ] {
        // Refused, or sent with the break encoded: both will do.
        drop(within(DEADLINE, "an answer", caller.invoke(call)).await?);
    }
    let requests = caller.service()?.requests();
    ensure!(
        requests.iter().all(|request| request.header("x-evil").is_none()),
        "a header was added"
    );
    caller.call(request("GET", "/json", "")).await.map(drop)
}

async fn concurrent_calls_keep_their_answers(caller: Caller) -> Verified {
    let calls = (0..30).map(|number| {
        let call = Request {
            data: Bytes::from(number.to_string()),
            ..request("POST", "/echo", "")
        };
        async { (call.data.clone(), caller.call(call).await) }
    });
    for (sent, answer) in futures::future::join_all(calls).await {
        equal("answer", &answer?.data, &[b"echo:", &sent[..]].concat().into())?;
    }
    Ok(())
}

/// More calls are given up than the caller has connections.
async fn a_dropped_call_leaves_the_caller_usable(caller: Caller) -> Verified {
    for _ in 0..20 {
        let calling = caller.invoke(request("GET", "/slow", ""));
        ensure!(
            tokio::time::timeout(Duration::from_millis(10), calling)
                .await
                .is_err(),
            "a slow call ended at once"
        );
    }
    let answer = caller.call(request("POST", "/echo", "x")).await?;
    equal("answer", &answer.data, &Bytes::from("echo:x"))
}
