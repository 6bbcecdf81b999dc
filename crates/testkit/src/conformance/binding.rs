//! Output bindings; those that speak HTTP are tried against a service of the test.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use layotto_core::{
    ErrorKind::{
        Internal, InvalidArgument, PermissionDenied, ResourceExhausted, Timeout, Unavailable, Unsupported,
    },
    Metadata,
    binding::{Binding, Request, Response},
};
use serde_json::json;

use super::{
    Assertion, DEADLINE, Subject, Verified, always, assertions,
    check::{OrSay, ensure, equal, fails, within},
    common,
};
use crate::http_server::{HttpService, Received};

type Bound = Subject<dyn Binding>;

/// The assertions of an output binding.
pub fn assertions() -> Vec<Assertion<dyn Binding>> {
    let own: Vec<Assertion<dyn Binding>> = assertions! {
        always => [operations_are_named_once, an_operation_not_offered_is_unsupported],
        http => [
            every_operation_is_its_verb,
            body_and_answer_come_through,
            binary_answers_come_through,
            path_and_query_are_appended,
            capitalised_metadata_are_headers,
            the_answer_tells_its_status_and_headers,
            other_statuses_are_errors_with_their_number,
            a_path_that_leads_up_is_refused,
            a_path_cannot_choose_the_host,
            a_line_break_cannot_add_a_header,
            redirects_are_not_followed,
            a_closed_connection_is_an_error,
            an_absent_service_is_unavailable,
            a_slow_service_times_out,
            a_large_answer_is_refused,
            concurrent_calls_keep_their_answers,
        ],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn http(binding: &Bound) -> Option<&'static str> {
    binding.fixture.http.is_none().then_some("does not speak HTTP")
}

fn request(operation: &str, path: &str, data: &'static str) -> Request {
    Request {
        operation: operation.to_owned(),
        data: Bytes::from(data),
        metadata: Metadata::from([("path".to_owned(), path.to_owned())]),
    }
}

impl Bound {
    fn service(&self) -> Result<&HttpService, String> {
        self.fixture
            .http
            .as_ref()
            .ok_or_else(|| "the fixture has no service".to_owned())
    }

    /// A path that no other assertion calls.
    fn path(&self, part: &str) -> String {
        format!("/{}", self.name(part))
    }

    async fn call(&self, request: Request) -> Result<Response, String> {
        let tried = format!("{} {:?}", request.operation, request.metadata.get("path"));
        within(DEADLINE, &tried, self.invoke(request))
            .await?
            .or_say(&tried)
    }

    async fn received(&self, path: &str) -> Result<Received, String> {
        let arrived = self.service()?.request_to(path, DEADLINE).await;
        arrived.ok_or_else(|| format!("the service got no request to {path}"))
    }
}

async fn operations_are_named_once(binding: Bound) -> Verified {
    let operations = binding.operations();
    ensure!(!operations.is_empty(), "no operation is offered");
    let different: HashSet<_> = operations.iter().collect();
    equal("different operations", &different.len(), &operations.len())
}

async fn an_operation_not_offered_is_unsupported(binding: Bound) -> Verified {
    for operation in ["no-such-operation", "GET", ""] {
        let result = binding.invoke(request(operation, "/x", "")).await;
        fails(&format!("operation {operation:?}"), result, &[Unsupported])?;
    }
    Ok(())
}

async fn every_operation_is_its_verb(binding: Bound) -> Verified {
    let wanted = [
        "create", "get", "head", "post", "put", "patch", "delete", "options", "trace",
    ];
    equal("operations", &binding.operations(), &&wanted[..])?;
    for operation in wanted {
        let path = binding.path(operation);
        binding.call(request(operation, &path, "")).await?;
        let verb = match operation {
            "create" => "POST".to_owned(),
            other => other.to_uppercase(),
        };
        equal(
            &format!("verb of {operation}"),
            &binding.received(&path).await?.method,
            &verb,
        )?;
    }
    Ok(())
}

async fn body_and_answer_come_through(binding: Bound) -> Verified {
    for operation in ["create", "post", "put", "patch"] {
        let path = binding.path(operation);
        let answer = binding.call(request(operation, &path, "body")).await?;
        equal("answer", &answer.data, &Bytes::from("echo:body"))?;
        let received = binding.received(&path).await?;
        equal("body", &received.body, &Bytes::from("body"))?;
        for field in ["content-type", "accept"] {
            let value = received.header(field).unwrap_or_default();
            ensure!(value == "application/json; charset=utf-8", "{field} is {value:?}");
        }
    }
    Ok(())
}

async fn binary_answers_come_through(binding: Bound) -> Verified {
    let answer = binding.call(request("get", "/bin", "")).await?;
    equal("answer", &answer.data, &(0..=255).collect::<Vec<u8>>().into())?;
    let answer = binding.call(request("get", "/big", "")).await?;
    equal("length of a large answer", &answer.data.len(), &200_000)?;
    let answer = binding.call(request("get", "/empty", "")).await?;
    equal("length of an empty answer", &answer.data.len(), &0)
}

async fn path_and_query_are_appended(binding: Bound) -> Verified {
    let path = binding.path("p");
    binding
        .call(request("post", &format!("{path}?q=1&r=%20"), "x"))
        .await?;
    equal(
        "target",
        &binding.received(&path).await?.target,
        &format!("{path}?q=1&r=%20"),
    )?;
    let relative = binding.name("relative");
    binding.call(request("get", &relative, "")).await?;
    binding.received(&format!("/{relative}")).await.map(drop)
}

async fn capitalised_metadata_are_headers(binding: Bound) -> Verified {
    let path = binding.path("p");
    let mut call = request("post", &path, "x");
    let metadata = [
        ("Content-Type", "text/x"),
        ("Accept", "a/b"),
        ("X-Foo", "bar"),
        ("lower", "nope"),
    ];
    call.metadata
        .extend(metadata.map(|(key, value)| (key.to_owned(), value.to_owned())));
    binding.call(call).await?;
    let received = binding.received(&path).await?;
    for (field, value) in [("content-type", "text/x"), ("accept", "a/b"), ("x-foo", "bar")] {
        equal(field, &received.header_values(field), &vec![value])?;
    }
    for field in ["lower", "path"] {
        equal(field, &received.header(field), &None)?;
    }
    Ok(())
}

async fn the_answer_tells_its_status_and_headers(binding: Bound) -> Verified {
    let answer = binding.call(request("get", "/hdrs", "")).await?;
    for (key, value) in [
        ("statusCode", "200"),
        ("status", "200 OK"),
        ("X-Up", "yes"),
        ("X-Upper-Case", "V"),
        ("X-Multi", "a, b"),
    ] {
        let found = answer.metadata.get(key).map(String::as_str);
        equal(&format!("metadata {key}"), &found, &Some(value))?;
    }
    Ok(())
}

async fn other_statuses_are_errors_with_their_number(binding: Bound) -> Verified {
    for status in ["404", "500", "302", "400"] {
        let path = format!("/status/{status}");
        match binding.invoke(request("get", &path, "")).await {
            Err(error) => {
                equal(
                    &format!("error kind of status {status}"),
                    &error.kind(),
                    &Internal,
                )?;
                ensure!(
                    error.message().contains(status),
                    "the error does not name {status}: {error}"
                );
            }
            Ok(answer) => return Err(format!("status {status} succeeded with {answer:?}")),
        }
    }
    binding.call(request("get", "/status/204", "")).await.map(drop)
}

async fn a_path_that_leads_up_is_refused(binding: Bound) -> Verified {
    for path in ["/../x", "../x", "/a/../../x"] {
        let result = binding.invoke(request("get", path, "")).await;
        fails(
            &format!("path {path:?}"),
            result,
            &[InvalidArgument, PermissionDenied, Internal],
        )?;
    }
    let arrived = binding.service()?.requests();
    ensure!(
        arrived.iter().all(|request| !request.target.contains("..")),
        "a path with .. reached the service"
    );
    Ok(())
}

/// However the path is put behind the URL, another service must not get the request.
async fn a_path_cannot_choose_the_host(binding: Bound) -> Verified {
    let other = HttpService::start().await;
    let own = binding.fresh([("timeout", json!("1s"))]).await?;
    for path in [
        format!("@{}/x", other.addr),
        format!("//{}/x", other.addr),
        format!("http://{}/x", other.addr),
        format!("\\\\{}/x", other.addr),
        ":1/x".to_owned(),
    ] {
        // Refused, or sent to the service of the settings: both will do.
        drop(within(DEADLINE, &path, own.invoke(request("get", &path, ""))).await?);
    }
    equal("requests to another service", &other.requests().len(), &0)
}

async fn a_line_break_cannot_add_a_header(binding: Bound) -> Verified {
    let mut call = request("post", &binding.path("p"), "x");
    call.metadata
        .insert("X-Foo".to_owned(), "a\r\nX-Evil: 1".to_owned());
    drop(binding.invoke(call).await);
    let path = format!("{}?q= HTTP/1.1\r\nX-Evil: 1\r\n", binding.path("p"));
    drop(binding.invoke(request("get", &path, "")).await);
    let requests = binding.service()?.requests();
    ensure!(
        requests.iter().all(|request| request.header("x-evil").is_none()),
        "a header was added"
    );
    Ok(())
}

async fn redirects_are_not_followed(binding: Bound) -> Verified {
    fails(
        "status 302",
        binding.invoke(request("get", "/status/302", "")).await,
        &[Internal],
    )
}

async fn a_closed_connection_is_an_error(binding: Bound) -> Verified {
    let result = binding.invoke(request("get", "/close", "")).await;
    fails(
        "a connection closed without an answer",
        result,
        &[Unavailable, Internal],
    )
}

async fn an_absent_service_is_unavailable(binding: Bound) -> Verified {
    let gone = HttpService::start().await;
    let url = gone.url();
    drop(gone);
    let own = binding.fresh([("url", json!(url))]).await?;
    let calling = own.invoke(request("get", "/x", ""));
    fails(
        "a call nobody answers",
        within(DEADLINE, "the error", calling).await?,
        &[Unavailable],
    )
}

async fn a_slow_service_times_out(binding: Bound) -> Verified {
    let own = binding.fresh([("timeout", json!("200ms"))]).await?;
    let calling = own.invoke(request("get", "/slow", ""));
    fails(
        "a slow call",
        within(Duration::from_secs(3), "the error", calling).await?,
        &[Timeout],
    )
}

async fn a_large_answer_is_refused(binding: Bound) -> Verified {
    let own = binding.fresh([("maxResponseBytes", json!("1000"))]).await?;
    fails(
        "an answer of 200000 bytes",
        own.invoke(request("get", "/big", "")).await,
        &[ResourceExhausted],
    )?;
    own.call(request("get", "/json", "")).await.map(drop)
}

async fn concurrent_calls_keep_their_answers(binding: Bound) -> Verified {
    let calls = (0..20).map(|number| {
        let data = Bytes::from(number.to_string());
        let call = Request {
            data,
            ..request("post", "/echo", "")
        };
        async { (call.data.clone(), binding.call(call).await) }
    });
    for (sent, answer) in futures::future::join_all(calls).await {
        equal("answer", &answer?.data, &[b"echo:", &sent[..]].concat().into())?;
    }
    Ok(())
}
