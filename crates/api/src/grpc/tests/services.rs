use std::sync::Mutex;

use http::HeaderMap;
use layotto_core::{
    health::{Health, Required},
    lock::Grant,
};
use layotto_proto::runtime::v1::{
    InvokeServiceRequest, LockKeepAliveRequest, SayHelloRequest, TryLockRequest,
};
use prost_types::Any;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::*;
use crate::{
    grpc::{Span, Tracer, follow},
    ops::fake::Asked,
};

#[tokio::test]
async fn a_greeting_echoes_the_data() {
    let served = Served::new(Options::default());
    let data = Some(Any {
        type_url: "type.googleapis.com/x".to_owned(),
        value: vec![1, 2],
    });
    let request = SayHelloRequest {
        service_name: "demo".to_owned(),
        name: "n".to_owned(),
        data: data.clone(),
    };
    let answer = served.client().say_hello(request).await.unwrap().into_inner();
    assert_eq!((answer.hello.as_str(), answer.data), ("hello, n", data));
}

#[tokio::test]
async fn grants_carry_their_fencing_token() {
    let served = Served::new(Options::default());
    let request = TryLockRequest {
        store_name: "demo".to_owned(),
        resource_id: "r".to_owned(),
        lock_owner: "o".to_owned(),
        expire: 10,
    };
    let busy = served.client().try_lock(request.clone()).await.unwrap();
    assert_eq!(
        (
            busy.get_ref().success,
            busy.metadata().get("layotto-fencing-token")
        ),
        (false, None)
    );
    *served.fake.grant.lock().unwrap() = Some(Grant::Acquired {
        fencing_token: Some(7),
    });
    let granted = served.client().try_lock(request).await.unwrap();
    assert!(granted.get_ref().success);
    assert_eq!(granted.metadata().get("layotto-fencing-token").unwrap(), "7");

    let request = LockKeepAliveRequest {
        store_name: "demo".to_owned(),
        resource_id: "r".to_owned(),
        lock_owner: "o".to_owned(),
        expire: 10,
    };
    let extended = served.client().lock_keep_alive(request).await.unwrap();
    assert_eq!(extended.metadata().get("layotto-fencing-token").unwrap(), "8");
}

async fn listed_services(served: &Served) -> Vec<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(served.channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    list.service.into_iter().map(|service| service.name).collect()
}

#[tokio::test]
async fn reflection_lists_what_is_served() {
    let served = Served::new(Options::default());
    let mut listed = listed_services(&served).await;
    let mut expected = crate::grpc::methods::services();
    listed.sort();
    expected.sort_unstable();
    assert_eq!(listed, expected);
}

async fn status_of(served: &Served, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(served.channel.clone()).check(request).await;
    answer
        .map(|answer| answer.into_inner().status())
        .map_err(|status| status.code())
}

#[tokio::test(start_paused = true)]
async fn health_follows_that_of_the_process() {
    let served = Served::new(Options::default());
    assert_eq!(status_of(&served, "").await, Ok(ServingStatus::NotServing));
    let health = Health::default();
    let part = health.indicator("part", Required::Always);
    part.up();
    let shutdown = CancellationToken::new();
    let following = tokio::spawn(follow(
        served.dispatch.health_reporter(),
        health,
        shutdown.clone(),
    ));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(
        status_of(&served, "spec.proto.runtime.v1.Runtime").await,
        Ok(ServingStatus::Serving)
    );
    assert_eq!(status_of(&served, "no.such.Service").await, Err(Code::NotFound));
    part.down("away");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(status_of(&served, "").await, Ok(ServingStatus::NotServing));
    part.up();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(status_of(&served, "").await, Ok(ServingStatus::Serving));
    shutdown.cancel();
    following.await.unwrap();
    assert_eq!(status_of(&served, "").await, Ok(ServingStatus::NotServing));
}

#[derive(Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Tracer for Recorder {
    fn begin(&self, path: &'static str, headers: &HeaderMap) -> Box<dyn Span> {
        let id = headers["rpc_trace_context.sofatraceid"].to_str().unwrap();
        self.0.lock().unwrap().push(format!("{path} {id}"));
        Box::new(Self(Arc::clone(&self.0)))
    }
}

impl Span for Recorder {
    fn end(self: Box<Self>, code: Code) {
        self.0.lock().unwrap().push(format!("{code:?}"));
    }
}

#[tokio::test]
async fn a_tracer_sees_every_call_and_its_trace_id_travels_on() {
    let recorder = Recorder::default();
    let seen = Arc::clone(&recorder.0);
    let served = Served::new(Options {
        tracer: Some(Arc::new(recorder)),
        ..Options::default()
    });
    served
        .client()
        .invoke_service(InvokeServiceRequest::default())
        .await
        .unwrap();
    let asked = served.fake.asked();
    let [Asked::Rpc(call)] = &asked[..] else {
        panic!("{asked:?}")
    };
    let id = &call
        .headers
        .iter()
        .find(|(name, _)| name == "rpc_trace_context.sofatraceid")
        .unwrap()
        .1;
    let expected = [
        format!("/spec.proto.runtime.v1.Runtime/InvokeService {id}"),
        "Ok".to_owned(),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}
