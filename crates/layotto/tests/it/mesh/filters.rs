//! Every stream filter acts on every kind of call: gRPC unary and streaming, HTTP/1.1, HTTP/2,
//! through a proxy and on the runtime's own listener.

use std::fs;

use futures::StreamExt;
use layotto_proto::runtime::v1::{
    GetFileRequest, PutFileRequest, SayHelloRequest, SubscribeConfigurationRequest,
};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::{
    clients::{Ask, Call, Outcome, get},
    peer::Peer,
    plan::{Plan, Running, proxy, runtime, to, until},
};
use crate::{lifecycle::client, sidecar::free_port};

/// The runtime's calls, of the four kinds.
#[derive(Debug, Clone, Copy)]
enum Own {
    SayHello,
    PutFile,
    GetFile,
    SubscribeConfiguration,
}

impl Own {
    const ALL: [Self; 4] = [
        Self::SayHello,
        Self::PutFile,
        Self::GetFile,
        Self::SubscribeConfiguration,
    ];

    fn path(self) -> String {
        format!("/spec.proto.runtime.v1.Runtime/{self:?}")
    }

    async fn make(self, port: u16, headers: &[(&str, &str)], body: &str) -> Outcome {
        let ended = tokio::time::timeout(crate::sidecar::PATIENCE, self.call(port, headers, body));
        Outcome::Grpc(ended.await.unwrap().map(|()| Vec::new()))
    }

    async fn call(self, port: u16, headers: &[(&str, &str)], body: &str) -> Result<(), Status> {
        let mut caller = client(port).await;
        match self {
            Self::SayHello => {
                let message = SayHelloRequest {
                    service_name: "helloworld".into(),
                    name: body.into(),
                    data: None,
                };
                caller.say_hello(with(message, headers)).await?;
            }
            Self::PutFile => {
                let metadata = [("FileMode", "511"), ("FileFlag", "66")];
                let message = PutFileRequest {
                    store_name: "local".into(),
                    name: "put".into(),
                    data: body.to_owned().into(),
                    metadata: metadata
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                };
                caller
                    .put_file(with(futures::stream::iter([message]), headers))
                    .await?;
            }
            Self::GetFile => {
                let message = GetFileRequest {
                    store_name: "local".into(),
                    name: "got".into(),
                    metadata: [("x".to_owned(), body.to_owned())].into(),
                };
                let mut parts = caller.get_file(with(message, headers)).await?.into_inner();
                while parts.message().await?.is_some() {}
            }
            Self::SubscribeConfiguration => {
                let message = SubscribeConfigurationRequest {
                    store_name: "store".into(),
                    app_id: "app".into(),
                    keys: vec![format!("key{body}")],
                    ..Default::default()
                };
                let messages = futures::stream::iter([message]);
                let mut items = caller
                    .subscribe_configuration(with(messages, headers))
                    .await?
                    .into_inner();
                while let Some(item) = items.next().await {
                    item?;
                }
            }
        }
        Ok(())
    }
}

fn with<T>(message: T, headers: &[(&str, &str)]) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    for (name, value) in headers {
        let name: tonic::metadata::AsciiMetadataKey = name.parse().unwrap();
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

/// Any of the ten calls.
#[derive(Debug, Clone, Copy)]
enum Any {
    Proxied(Call),
    Own(Own),
}

impl Any {
    fn all() -> impl Iterator<Item = Self> {
        Call::ALL
            .map(Self::Proxied)
            .into_iter()
            .chain(Own::ALL.map(Self::Own))
    }

    fn path(self) -> String {
        match self {
            Self::Proxied(call) => call.path().to_owned(),
            Self::Own(own) => own.path(),
        }
    }

    fn is_grpc(self) -> bool {
        !matches!(self, Self::Proxied(Call::Http1 | Call::Http2))
    }
}

/// A proxy and a runtime with the same filters in front.
struct World {
    running: Running,
    _peer: Peer,
    web: u16,
    grpc: u16,
    metrics: u16,
}

impl World {
    async fn start(filters: Value, change: impl FnOnce(&mut Plan)) -> Self {
        let peer = Peer::start("a").await;
        let [web, grpc, metrics] = [(); 3].map(|()| free_port());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("got"), "content").unwrap();
        let sections = json!({
            "app": {"app_id": "app"},
            "hellos": {"helloworld": {"type": "helloworld", "hello": "greeting"}},
            "file": {"local": {"type": "local", "metadata": {"root": folder.path()}}},
            "config_store": {"store": {"type": "in-memory", "metadata": {}}},
        });
        let sink = json!({"type": "prometheus", "config": {"port": metrics}});
        let mut plan = Plan::web(web, json!([to("/", "c", json!({}))]))
            .listener(runtime(grpc, sections))
            .cluster("c", [&peer], json!({}))
            .root(json!({"metrics": {"sinks": [sink]}}));
        for listener in &mut plan.listeners {
            listener["stream_filters"] = filters.clone();
        }
        change(&mut plan);
        Self {
            running: plan.run_in(folder, &[]),
            _peer: peer,
            web,
            grpc,
            metrics,
        }
    }

    async fn call(&self, call: Any, headers: &[(&str, &str)], body: &str) -> Outcome {
        match call {
            Any::Proxied(call) => call.make(self.web, headers, body).await,
            Any::Own(own) => own.make(self.grpc, headers, body).await,
        }
    }

    /// Every call, with `headers` and `body`, reaches its service.
    async fn all_pass(&self, headers: &[(&str, &str)], body: &str) {
        for call in Any::all() {
            let outcome = self.call(call, headers, body).await;
            assert!(outcome.is_ok(), "{call:?}: {outcome:?}");
        }
    }

    /// Every call is refused.
    async fn none_passes(
        &self,
        headers: &[(&str, &str)],
        body: &str,
        (status, code, text): (u16, Code, &str),
    ) {
        for call in Any::all() {
            let outcome = self.call(call, headers, body).await;
            assert!(outcome.is_refused(status, code, text), "{call:?}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn flow_control_limits_every_kind_of_call() {
    let rules: Vec<_> = Any::all()
        .map(|call| json!({"resource": call.path(), "threshold": 1, "statIntervalInMs": 60_000}))
        .collect();
    let filter = json!([{"type": "flowControlFilter", "config": {"global_switch": true, "rules": rules}}]);
    let world = World::start(filter, |_| ()).await;
    world.all_pass(&[], "x").await;
    let refusal = (509, Code::ResourceExhausted, "current request is limited");
    world.none_passes(&[], "x", refusal).await;
}

#[tokio::test]
async fn faults_are_injected_into_every_kind_of_call() {
    let filter = json!([{"type": "fault", "config": {
        "abort": {"status": 503, "percentage": 100}, "headers": [{"name": "x-fault", "value": "yes"}]}}]);
    let world = World::start(filter, |_| ()).await;
    world.all_pass(&[("x-fault", "no")], "x").await;
    let refusal = (503, Code::Unavailable, "fault injected");
    world.none_passes(&[("x-fault", "yes")], "x", refusal).await;
}

#[tokio::test]
async fn delays_hold_every_kind_of_call_up() {
    let filter = json!([{"type": "fault", "config": {
        "delay": {"fixed_delay": "300ms", "percentage": 100}, "headers": [{"name": "x-fault"}]}}]);
    let world = World::start(filter, |_| ()).await;
    for call in Any::all() {
        let begun = std::time::Instant::now();
        let outcome = world.call(call, &[("x-fault", "yes")], "x").await;
        assert!(outcome.is_ok(), "{call:?}: {outcome:?}");
        assert!(
            begun.elapsed().as_millis() >= 300,
            "{call:?}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn payloads_of_every_kind_of_call_are_limited() {
    let filter = json!([{"type": "payload_limit", "config": {"max_entity_size": 500}}]);
    let world = World::start(filter, |_| ()).await;
    world.all_pass(&[], "x").await;
    let refusal = (413, Code::ResourceExhausted, "the request's body is too big");
    world.none_passes(&[], &"x".repeat(2000), refusal).await;
}

#[tokio::test]
async fn addresses_are_refused_for_every_kind_of_call() {
    let only = |allowed: &str| {
        json!([{"type": "ip_access", "config": {
            "default_action": "deny", "ips": [{"action": "allow", "addrs": [allowed]}]}}])
    };
    let world = World::start(only("127.0.0.0/8"), |_| ()).await;
    world.all_pass(&[], "x").await;
    let world = World::start(only("10.0.0.0/8"), |_| ()).await;
    for call in Any::all() {
        let outcome = world.call(call, &[], "x").await;
        assert!(
            outcome.is_refused(403, Code::PermissionDenied, ""),
            "{call:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn grpc_calls_of_every_kind_are_counted() {
    let world = World::start(json!([{"type": "grpc_metric"}]), |_| ()).await;
    world.all_pass(&[], "x").await;
    let page = get(world.metrics, "/metrics").await.text();
    for call in Any::all() {
        for family in ["grpc_request_total", "grpc_response_succ_total"] {
            let line = format!("{family}{{service=\"{}\"}} 1\n", call.path());
            assert_eq!(page.contains(&line), call.is_grpc(), "{line}: {page}");
        }
    }
}

#[tokio::test]
async fn the_actuator_lets_every_kind_of_call_pass_and_answers_its_own() {
    let world = World::start(json!([{"type": "actuator_filter"}]), |_| ()).await;
    world.all_pass(&[], "x").await;
    let health = Ask::get("/actuator/health/readiness");
    for reply in [health.http1(world.web).await, health.http2(world.web).await] {
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["status"]),
            (200, &json!("UP"))
        );
    }
}

#[tokio::test]
async fn every_kind_of_call_is_in_the_access_log_of_its_listener() {
    let world = World::start(json!([]), |plan| {
        for listener in &mut plan.listeners {
            let name = listener["name"].as_str().unwrap();
            listener["access_logs"] = json!([{
                "log_path": format!("{name}.log"),
                "log_format": "<%x-mosn-path%|%response_code%|%request_header_x-mark%|%bytes_received%>",
            }]);
        }
    })
    .await;
    world.all_pass(&[("x-mark", "me")], "x").await;
    let read = |name: &str| {
        fs::read_to_string(world.running.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    };
    for call in Any::all() {
        let (log, other) = match call {
            Any::Proxied(_) => ("web", "grpc"),
            Any::Own(_) => ("grpc", "web"),
        };
        let line = format!("<{}|200|me|", call.path());
        until(&line, async || read(log).contains(&line)).await;
        assert!(!read(other).contains(&line), "{line}");
    }
}

#[tokio::test]
async fn a_host_that_fails_more_than_the_others_is_ejected_whatever_the_kind_of_call() {
    let good = Peer::start("good").await;
    let bad = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bad_addr = bad.local_addr().unwrap();
    // Takes connections and drops them.
    let dropping = tokio::spawn(async move { while bad.accept().await.is_ok() {} });
    let web = free_port();
    let routes: Vec<_> = Call::ALL
        .iter()
        .map(|call| to(call.path(), &format!("{call:?}"), json!({})))
        .collect();
    let settings = json!({
        "enabled": true, "timeWindow": 1000, "leastWindowCount": 2, "exceptionRateMultiple": 1.5});
    let mut plan = Plan::default()
        .listener(proxy("web", web, "routes"))
        .routes("routes", json!(routes))
        .filters(json!([{"type": "fault_tolerance", "config": settings}]));
    for call in Call::ALL {
        plan = plan.cluster(&format!("{call:?}"), [&good], json!({}));
        let hosts = plan.clusters.last_mut().unwrap()["hosts"].as_array_mut().unwrap();
        hosts.push(json!({"address": bad_addr.to_string()}));
    }
    let _running = plan.run();
    for call in Call::ALL {
        let mut failed = 0;
        let mut good_in_a_row = 0;
        let begun = std::time::Instant::now();
        while good_in_a_row < 10 {
            match call.make(web, &[], "x").await.is_ok() {
                true => good_in_a_row += 1,
                false => (good_in_a_row, failed) = (0, failed + 1),
            }
            assert!(
                begun.elapsed() < crate::sidecar::PATIENCE,
                "{call:?} still goes to the host that fails"
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(failed > 0, "{call:?} never went to the host that fails");
    }
    dropping.abort();
}
