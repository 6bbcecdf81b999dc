use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{
    connection::{Local, Remote},
    stack::over,
};

fn from(remote: Remote, headers: &[(&'static str, &str)]) -> Request<()> {
    let local = Local::Tcp(SocketAddr::from(([127, 0, 0, 1], 34999)));
    let mut request = Request::post("/actuator/logger").extension(Info::new(remote, local, "http"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn tcp(address: &str) -> Remote {
    Remote::Tcp(address.parse().unwrap())
}

#[test]
fn clients_on_this_machine_need_no_token() {
    for token in [None, Some("secret")] {
        let access = Access::new(token);
        for remote in [
            tcp("127.0.0.1:5"),
            tcp("127.9.9.9:5"),
            tcp("[::1]:5"),
            tcp("[::ffff:127.0.0.1]:5"),
            Remote::Unix { uid: 7, pid: None },
        ] {
            assert_eq!(access.check(&from(remote, &[])), Ok(()), "{remote}");
        }
    }
}

// deviation: D033
#[test]
fn other_clients_need_the_token() {
    let access = Access::new(Some("secret"));
    let allowed = |headers: &[_]| access.check(&from(tcp("10.0.0.7:5"), headers)).is_ok();
    assert!(allowed(&[("authorization", "Bearer secret")]));
    assert!(allowed(&[("authorization", "bearer secret")]));
    assert!(allowed(&[("layotto-admin-token", "secret")]));
    assert!(allowed(&[
        ("authorization", "Basic eA=="),
        ("layotto-admin-token", "secret")
    ]));
    assert!(!allowed(&[]));
    assert!(!allowed(&[("authorization", "secret")]));
    assert!(!allowed(&[("authorization", "Bearer secre")]));
    assert!(!allowed(&[("authorization", "Bearer secrets")]));
    assert!(!allowed(&[("layotto-admin-token", "")]));
}

// deviation: D064
#[test]
fn without_a_token_other_clients_are_refused_whatever_they_send() {
    for access in [Access::new(None), Access::new(Some(""))] {
        for headers in [
            &[][..],
            &[("layotto-admin-token", "")],
            &[("authorization", "Bearer ")],
        ] {
            let checked = access.check(&from(tcp("10.0.0.7:5"), headers));
            assert_eq!(checked, Err(Refusal::Elsewhere));
        }
    }
}

// deviation: D074
#[test]
fn a_browser_on_this_machine_must_ask_for_a_name_that_leads_nowhere_else() {
    let address = |text: &str| text.parse::<Address>().unwrap();
    let access = Access::new(Some("secret")).at([&address("admin.corp:34901"), &address("127.0.0.1:34999")]);
    let check = |headers: &[_]| access.check(&from(tcp("127.0.0.1:5"), headers));
    for host in [
        "localhost",
        "LocalHost:34901",
        "127.0.0.1:34901",
        "[::1]:34901",
        "10.0.0.7",
        "admin.corp:34901",
    ] {
        assert_eq!(check(&[("host", host)]), Ok(()), "{host}");
    }
    for host in [
        "evil.test",
        "evil.test:34901",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "",
        "a b",
    ] {
        assert_eq!(check(&[("host", host)]), Err(Refusal::Host), "{host}");
    }
    let token = ("layotto-admin-token", "secret");
    assert_eq!(check(&[("host", "evil.test"), token]), Ok(()));
    let unix = Remote::Unix { uid: 7, pid: None };
    assert_eq!(access.check(&from(unix, &[("host", "any")])), Ok(()));
    let mut request = from(tcp("127.0.0.1:5"), &[]);
    *request.uri_mut() = "http://evil.test/actuator/logger".parse().unwrap();
    assert_eq!(access.check(&request), Err(Refusal::Host), "as HTTP/2 has it");
}

// deviation: D074
#[test]
fn a_page_of_another_site_may_not_change_anything() {
    let access = Access::new(None);
    let check = |origin| {
        access.check(&from(
            tcp("127.0.0.1:5"),
            &[("host", "127.0.0.1:34999"), ("origin", origin)],
        ))
    };
    assert_eq!(check("http://127.0.0.1:34999"), Ok(()));
    for origin in ["https://evil.test", "http://127.0.0.1:8080", "null"] {
        assert_eq!(check(origin), Err(Refusal::Origin), "{origin}");
    }
}

#[test]
fn a_request_of_unknown_origin_is_refused() {
    let checked = Access::new(None).check(&Request::new(()));
    assert_eq!(checked, Err(Refusal::Elsewhere));
}

#[test]
fn only_guarded_requests_are_refused() {
    let access = Access::new(None).only(|method, _| method != Method::GET);
    let mut request = from(tcp("10.0.0.7:5"), &[]);
    assert!(access.check(&request).is_err());
    *request.method_mut() = Method::GET;
    assert_eq!(access.check(&request), Ok(()));
}

#[tokio::test]
async fn the_layer_answers_403_and_spares_the_handler() {
    let handler = service_fn(|_: Request<()>| async { Ok(Response::new(Full::<Bytes>::from("done"))) });
    let service = over(handler).push(Access::new(None).layer()).into_service();
    let refused = service
        .clone()
        .oneshot(from(tcp("10.0.0.7:5"), &[]))
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(refused.headers()["content-type"], "application/json");
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(br#"{"code":"PERMISSION_DENIED","#));

    let served = service.oneshot(from(tcp("127.0.0.1:5"), &[])).await.unwrap();
    assert_eq!(served.into_body().collect().await.unwrap().to_bytes(), "done");
}

#[test]
fn the_token_is_not_printed() {
    assert!(!format!("{:?}", Access::new(Some("s3cret"))).contains("s3cret"));
}
