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
            assert!(access.allows(&from(remote, &[])), "{remote}");
        }
    }
}

// deviation: D033
#[test]
fn other_clients_need_the_token() {
    let access = Access::new(Some("secret"));
    let allowed = |headers: &[_]| access.allows(&from(tcp("10.0.0.7:5"), headers));
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
            assert!(!access.allows(&from(tcp("10.0.0.7:5"), headers)));
        }
    }
}

#[test]
fn a_request_of_unknown_origin_is_refused() {
    assert!(!Access::new(None).allows(&Request::new(())));
}

#[test]
fn only_guarded_requests_are_refused() {
    let access = Access::new(None).only(|method, _| method != Method::GET);
    let mut request = from(tcp("10.0.0.7:5"), &[]);
    assert!(!access.allows(&request));
    *request.method_mut() = Method::GET;
    assert!(access.allows(&request));
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
