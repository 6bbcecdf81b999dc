//! Upstream's quickstarts about calls of other services, flow control and the traffic dump.

use std::time::{Duration, Instant};

use layotto_proto::runtime::v1::{
    CommonInvokeRequest, HttpExtension, InvokeResponse, InvokeServiceRequest, SayHelloRequest,
};
use layotto_testkit::HttpService;
use prost_types::Any;
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status};

use super::{
    clients::{Ask, get},
    peer::Peer,
    plan::{Plan, Running, listener, proxy, runtime, to, virtual_proxy},
};
use crate::{lifecycle::client, sidecar::free_port};

/// The runtime calls services through the listener `egress`, which has no socket.
struct World {
    running: Running,
    grpc: u16,
}

impl World {
    fn start(hosts: Value, before: Value, action: Value) -> Self {
        let grpc = free_port();
        let channel = json!({"size": 16, "protocol": "http", "listener": "egress"});
        let invoker = json!({"rpcs": {"mosn": {"config": {"before_invoke": before, "channel": [channel]}}}});
        let route = json!({
            "match": {"headers": [{"name": "id", "value": "HelloService:1.0"}]},
            "route": super::plan::merged(json!({"cluster_name": "http_server"}), &action),
        });
        let mut plan = Plan::default()
            .listener(runtime(grpc, invoker))
            .listener(virtual_proxy("egress", "http_router"))
            .routes("http_router", json!([route]));
        plan.clusters.push(json!({
            "name": "http_server", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": hosts}));
        Self {
            running: plan.run(),
            grpc,
        }
    }

    async fn invoke(
        &self,
        id: &str,
        method: &str,
        metadata: &[(&'static str, &'static str)],
    ) -> Result<Response<InvokeResponse>, Status> {
        let message = CommonInvokeRequest {
            method: method.into(),
            content_type: "text/plain".into(),
            data: Some(Any {
                value: b"hello".to_vec(),
                ..Default::default()
            }),
            http_extension: Some(HttpExtension {
                verb: 3,
                querystring: "a=b".into(),
            }),
        };
        let mut request = Request::new(InvokeServiceRequest {
            id: id.into(),
            message: Some(message),
        });
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        client(self.grpc).await.invoke_service(request).await
    }
}

fn host(addr: impl ToString) -> Value {
    json!([{"address": addr.to_string(), "hostname": "downstream_machine1", "weight": 1}])
}

#[tokio::test]
async fn a_service_is_called_through_the_listener_without_a_socket() {
    let service = HttpService::start().await;
    let world = World::start(host(service.addr), json!([]), json!({}));
    let metadata = [("x-mine", "1"), ("rpc_request_timeout", "2000")];
    let reply = world
        .invoke("HelloService:1.0", "/hello", &metadata)
        .await
        .unwrap();
    assert_eq!(reply.metadata().get("x-up").unwrap(), "yes");
    let reply = reply.into_inner();
    assert_eq!(reply.data.unwrap().value, b"echo:hello");
    assert_eq!(reply.content_type, "text/plain; charset=utf-8");
    let seen = service.requests().remove(0);
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/hello?a=b")
    );
    assert_eq!(seen.header("id"), Some("HelloService:1.0"));
    assert_eq!(seen.header("x-mine"), Some("1"));
    for (name, value) in &seen.headers {
        let name = name.to_ascii_lowercase();
        let is_internal = name.starts_with(':') || name.starts_with("grpc-") || name.starts_with("x-mosn");
        assert!(!is_internal && name != "te", "{name}: {value}");
    }
}

#[tokio::test]
async fn a_listener_without_a_socket_opens_none() {
    let service = HttpService::start().await;
    let world = World::start(host(service.addr), json!([]), json!({}));
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(world.running.file()).unwrap()).unwrap();
    let address = config["servers"][0]["listeners"][1]["address"].as_str().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn failures_of_a_service_are_told_as_upstream_tells_them() {
    let service = HttpService::start().await;
    let world = World::start(host(service.addr), json!([]), json!({}));
    let status = world
        .invoke("HelloService:1.0", "/status/503", &[])
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "http response code 503, body: st 503")
    );
    let begun = Instant::now();
    let status = world.invoke("HelloService:1.0", "/slow", &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let took = begun.elapsed();
    assert!(
        (Duration::from_millis(2900)..Duration::from_millis(3900)).contains(&took),
        "{took:?}"
    );
    let begun = Instant::now();
    let timeout = [("rpc_request_timeout", "200")];
    let status = world
        .invoke("HelloService:1.0", "/slow", &timeout)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    let status = world.invoke("Nobody:1.0", "/hello", &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().starts_with("http response code 404"), "{status}");
}

#[tokio::test]
async fn a_service_without_a_host_is_unavailable() {
    let dead = format!("127.0.0.1:{}", free_port());
    for hosts in [json!([]), host(dead)] {
        let world = World::start(hosts.clone(), json!([]), json!({}));
        let status = world.invoke("HelloService:1.0", "/hello", &[]).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{hosts}: {status}");
    }
}

/// A JSON-RPC 2.0 service that knows one user.
async fn json_rpc() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let service = hyper::service::service_fn(answer_json_rpc);
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    (addr, task)
}

async fn answer_json_rpc(
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<String>, hyper::Error> {
    use http_body_util::BodyExt;

    let (head, body) = request.into_parts();
    let call: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let is_right = head.method == "POST"
        && head.uri.path() == "/org.apache.dubbo.samples.UserProvider"
        && header("x-services") == Some("org.apache.dubbo.samples.UserProvider")
        && header("x-method") == Some("GetUser")
        && header("content-type") == Some("application/json")
        && header("accept") == Some("application/json");
    let result = match (is_right, call["params"][0].as_str()) {
        (true, Some(id)) => json!({"id": id, "name": "Alex Stocks", "age": 18}),
        _ => json!({"wrong": format!("{head:?}")}),
    };
    let reply = json!({"jsonrpc": "2.0", "id": call["id"], "result": result});
    Ok(http::Response::new(reply.to_string()))
}

#[tokio::test]
async fn a_dubbo_service_is_called_by_json_rpc() {
    const SERVICE: &str = "org.apache.dubbo.samples.UserProvider";
    let (addr, task) = json_rpc().await;
    let grpc = free_port();
    let channel = json!({"size": 16, "protocol": "http", "listener": "egress"});
    let config = json!({"before_invoke": [{"name": "dubbo_json_rpc"}], "channel": [channel]});
    let route = json!({
        "match": {"headers": [{"name": "id", "value": SERVICE}]}, "route": {"cluster_name": "dubbo"}});
    let mut plan = Plan::default()
        .listener(runtime(grpc, json!({"rpcs": {"mosn": {"config": config}}})))
        .listener(virtual_proxy("egress", "routes"))
        .routes("routes", json!([route]));
    plan.clusters.push(json!({"name": "dubbo", "hosts": host(addr)}));
    let _running = plan.run();
    let call = json!({"jsonrpc": "2.0", "method": "GetUser", "params": ["A003"], "id": 9527});
    let request = InvokeServiceRequest {
        id: SERVICE.into(),
        message: Some(CommonInvokeRequest {
            method: "GetUser".into(),
            data: Some(Any {
                value: call.to_string().into_bytes(),
                ..Default::default()
            }),
            http_extension: Some(HttpExtension {
                verb: 3,
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    let reply = client(grpc)
        .await
        .invoke_service(request)
        .await
        .unwrap()
        .into_inner();
    let reply: Value = serde_json::from_slice(&reply.data.unwrap().value).unwrap();
    assert_eq!(
        reply,
        json!({"jsonrpc": "2.0", "id": 9527, "result": {"id": "A003", "name": "Alex Stocks", "age": 18}})
    );
    task.abort();
}

async fn hello(port: u16) -> Result<(), Status> {
    let request = SayHelloRequest {
        service_name: "helloworld".into(),
        name: "x".into(),
        data: None,
    };
    client(port).await.say_hello(request).await.map(drop)
}

fn admin(port: u16) -> Value {
    json!({"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}})
}

#[tokio::test]
async fn five_calls_pass_and_the_admin_api_changes_how_many() {
    let (grpc, api) = (free_port(), free_port());
    let mut file = Plan::default()
        .listener(runtime(
            grpc,
            json!({"hellos": {"helloworld": {"type": "helloworld", "hello": "greeting"}}}),
        ))
        .root(admin(api));
    let filter = |threshold: u32| {
        json!({
            "global_switch": true, "limit_key_type": "PATH",
            "rules": [{"resource": "/spec.proto.runtime.v1.Runtime/SayHello", "grade": 1,
                       "threshold": threshold, "statIntervalInMs": 60_000}],
        })
    };
    file.listeners[0]["stream_filters"] = json!([{"type": "flowControlFilter", "config": filter(5)}]);
    let _running = file.run();
    let passing = async |of: usize| {
        let mut passed = 0;
        for _ in 0..of {
            match hello(grpc).await {
                Ok(()) => passed += 1,
                Err(status) => assert_eq!(
                    (status.code(), status.message()),
                    (Code::ResourceExhausted, "current request is limited")
                ),
            }
        }
        passed
    };
    assert_eq!(passing(10).await, 5);
    let shown = get(api, "/api/v1/flowcontrol").await.json();
    assert_eq!(shown["grpc"]["config"]["rules"][0]["threshold"], 5.0, "{shown}");
    let put = |path: &str, body: &Value| Ask::new("PUT", path).body(body.to_string());
    let reply = put("/api/v1/flowcontrol/grpc", &filter(8)).http1(api).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(passing(10).await, 3, "what was counted stays counted");
    let off = json!({"global_switch": false});
    let reply = put("/api/v1/flowcontrol/grpc", &off).http1(api).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(passing(10).await, 10);
    let wrong = json!({"global_switch": true, "rules": [{"resource": "x", "threshold": -1}]});
    for (path, body, status) in [
        ("/api/v1/flowcontrol/grpc", &wrong, 400),
        ("/api/v1/flowcontrol/grpc", &json!({"rulez": []}), 400),
        ("/api/v1/flowcontrol/none", &off, 404),
    ] {
        let reply = put(path, body).http1(api).await;
        assert_eq!(reply.status, status, "{path} {body}: {reply:?}");
    }
    assert_eq!(passing(10).await, 10, "what is wrong changes nothing");
}

/// A proxy whose traffic can be dumped, and an actuator.
async fn dumping(peer: &Peer) -> (Running, u16, u16) {
    let (web, actuator) = (free_port(), free_port());
    let mut dumped = proxy("web", web, "routes");
    let filters = dumped["filter_chains"][0]["filters"].as_array_mut().unwrap();
    filters.insert(
        0,
        json!({"type": "tcpcopy", "config": {
        "dump_dir": "dumps", "strategy": {"switch": "OFF", "cpu_max_rate": 99.9, "mem_max_rate": 99.9}}}),
    );
    let mut shows = listener("actuator", actuator, json!({"type": "proxy", "config": {}}));
    shows["stream_filters"] = json!([{"type": "actuator_filter"}]);
    let plan = Plan::default()
        .listener(dumped)
        .listener(shows)
        .routes("routes", json!([to("/", "c", json!({}))]))
        .cluster("c", [peer], json!({}));
    (plan.run(), web, actuator)
}

#[tokio::test]
async fn the_traffic_dump_is_switched_on_through_the_actuator() {
    let peer = Peer::start("a").await;
    let (_running, _web, actuator) = dumping(&peer).await;
    let before = get(actuator, "/actuator/tcpcopy").await.json();
    let post = |body: Value| Ask::new("POST", "/actuator/tcpcopy").body(body.to_string());
    let reply = post(json!({"switch": "ON", "interval": 30, "duration": 2}))
        .http1(actuator)
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let after = get(actuator, "/actuator/tcpcopy").await.json();
    assert_ne!(before, after);
    assert!(after.to_string().contains("\"ON\""), "{after}");
    for wrong in [
        json!({"switch": "ON", "interval": 29}),
        json!({"interval": 30, "duration": 30}),
        json!({"switch": "PERHAPS"}),
    ] {
        let reply = post(wrong.clone()).http1(actuator).await;
        assert_eq!(reply.status, 400, "{wrong}: {reply:?}");
    }
    assert_eq!(get(actuator, "/actuator/tcpcopy").await.json(), after);
    let reply = post(json!({"switch": "FORCE_OFF"})).http1(actuator).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let off = get(actuator, "/actuator/tcpcopy").await.json();
    assert!(off.to_string().contains("FORCE_OFF"), "{off}");
}

#[tokio::test]
#[ignore = "soak: the first window opens after 30 s"]
async fn the_traffic_dump_writes_what_clients_send() {
    let peer = Peer::start("a").await;
    let (running, web, actuator) = dumping(&peer).await;
    let body = json!({"switch": "ON", "interval": 30, "duration": 5}).to_string();
    let reply = Ask::new("POST", "/actuator/tcpcopy")
        .body(body)
        .http1(actuator)
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let file = running.folder.path().join("dumps/dump_tcp_copy.log");
    let hex = |text: &str| {
        let pairs: Vec<_> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(" ")
    };
    let line = hex("GET /marked HTTP/1.1");
    let begun = Instant::now();
    loop {
        let secret = Ask::get("/marked").header("authorization", "hidden");
        assert_eq!(secret.http1(web).await.status, 200);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.contains(&line) {
            assert!(!text.contains(&hex("hidden")), "{text}");
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was written");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
