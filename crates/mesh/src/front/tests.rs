use std::sync::{Mutex, Weak};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::{
    cluster::config::ClusterConfig,
    connection::{Local, Remote},
    drain,
    filter::{Context, KINDS, testing},
    metrics::Metrics,
    proxy::http::Settings,
    trace::{self, Tracer},
    upstream::{
        Protocol,
        fixture::{Server, clusters, host, soon, text},
    },
};

/// What happened, in its order.
type Log = Arc<Mutex<Vec<String>>>;

/// Notes that a request came by, and whether it had a route.
struct Passing {
    name: &'static str,
    phase: Phase,
    log: Log,
}

impl Filter for Passing {
    fn phase(&self) -> Phase {
        self.phase
    }

    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let exchange = Exchange::of(request.extensions()).unwrap().clone();
            let routed = match exchange.facts().route {
                Some(_) => " routed",
                None => "",
            };
            self.log.lock().unwrap().push(format!("{}{routed}", self.name));
            let reply = next.run(request).await;
            self.log.lock().unwrap().push(format!("{} back", self.name));
            reply
        })
    }
}

impl Tracer for Passing {
    fn begin(&self, _: &mut http::request::Parts, exchange: &Exchange) -> Option<Box<dyn trace::Span>> {
        let listener = exchange.listener();
        self.log
            .lock()
            .unwrap()
            .push(format!("{} of {listener}", self.name));
        None
    }
}

fn passing(log: &Log, name: &'static str, phase: Phase) -> Arc<Passing> {
    let log = Arc::clone(log);
    Arc::new(Passing { name, phase, log })
}

/// Answers what a closure does.
fn service<F, A>(answer: F) -> Arc<dyn Terminal>
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    Arc::new(testing::Service::new(answer))
}

fn get(path: &str) -> Request {
    let request = http::Request::get(path).header("host", "test");
    request.body(Body::empty()).unwrap()
}

fn table(routers: Value) -> Arc<Table> {
    let hosts = json!([{ "domains": ["*"], "routers": routers }]);
    let config = serde_json::from_value(json!({ "virtual_hosts": hosts })).unwrap();
    Arc::new(Table::new(&config, KINDS).unwrap())
}

fn filter(name: &str, config: Value) -> Arc<dyn Filter> {
    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    (kind.build)(&config, &Context::default()).unwrap()
}

fn proxy(filters: Vec<Arc<dyn Filter>>, routes: Arc<Table>, clusters: Clusters) -> Front {
    let http = Http::new(Settings::default(), drain::channel().1);
    Front::proxy("web", filters, routes, Arc::new(clusters), http)
}

async fn ask(front: &Front, request: Request) -> (u16, String) {
    let reply = soon(front.answer(request, None)).await;
    (reply.status().as_u16(), soon(text(reply.into_body())).await)
}

#[tokio::test]
async fn the_observer_is_first_then_filters_before_the_route_then_those_after_it_then_the_end() {
    let log = Log::default();
    let filters = || -> Vec<Arc<dyn Filter>> {
        vec![
            passing(&log, "after 1", Phase::AfterRoute),
            passing(&log, "before 1", Phase::BeforeRoute),
            passing(&log, "after 2", Phase::AfterRoute),
            passing(&log, "before 2", Phase::BeforeRoute),
        ]
    };
    let observer = || {
        let tracer = passing(&log, "observer", Phase::BeforeRoute);
        let counters = Metrics::default().listener("web");
        Observer::new("web", counters, Vec::new(), Some(tracer))
    };
    let back = ["after 2 back", "after 1 back", "before 2 back", "before 1 back"];

    let end = log.clone();
    let over = service(move |_| {
        end.lock().unwrap().push("end".into());
        async { Response::new("served".into()) }
    });
    let front = Front::over("web", filters(), over).observed(observer());
    assert_eq!(ask(&front, get("/")).await, (200, "served".into()));
    let there = [
        "observer of web",
        "before 1",
        "before 2",
        "after 1",
        "after 2",
        "end",
    ];
    assert_eq!(
        std::mem::take(&mut *log.lock().unwrap()),
        [&there[..], &back].concat()
    );

    let routes = table(json!([{ "direct_response": { "status": 200, "body": "routed" } }]));
    let front = proxy(filters(), routes, Clusters::default()).observed(observer());
    assert_eq!(ask(&front, get("/")).await, (200, "routed".into()));
    let there = [
        "observer of web",
        "before 1",
        "before 2",
        "after 1 routed",
        "after 2 routed",
    ];
    assert_eq!(*log.lock().unwrap(), [&there[..], &back].concat());
    assert_eq!(front.filters().count(), 4);
}

#[tokio::test]
async fn a_front_that_is_replaced_finishes_what_it_began_and_is_gone_then() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, held) = (begun.clone(), go.clone());
    let old = service(move |_| {
        let (told, held) = (told.clone(), held.clone());
        async move {
            told.notify_one();
            held.notified().await;
            Response::new("old".into())
        }
    });
    let filter: Arc<dyn Filter> = passing(&Log::default(), "old", Phase::AfterRoute);
    let gone: Weak<dyn Filter> = Arc::downgrade(&filter);
    let slot = Slot::new(Front::over("web", vec![filter], old));
    let open = tokio::spawn({
        let slot = slot.clone();
        async move { slot.call(get("/")).await }
    });
    soon(begun.notified()).await;
    slot.swap(Front::over(
        "web",
        Vec::new(),
        service(async |_| Response::new("new".into())),
    ));
    let next = soon(slot.call(get("/"))).await;
    assert_eq!(text(next.into_body()).await, "new");
    assert!(gone.upgrade().is_some(), "the exchange is still open");
    go.notify_one();
    let reply = soon(open).await.unwrap();
    assert_eq!(text(reply.into_body()).await, "old");
    assert!(gone.upgrade().is_none());
}

#[tokio::test]
async fn a_call_from_inside_has_an_exchange_and_no_connection() {
    let tell = service(async |request: Request| {
        let exchange = Exchange::of(request.extensions()).unwrap();
        Response::new(format!("{} {:?}", exchange.listener(), exchange.source_ip()).into())
    });
    let slot = Slot::new(Front::over("web", Vec::new(), tell));
    let reply = soon(slot.call(get("/"))).await;
    assert_eq!(text(reply.into_body()).await, "web None");
    let remote = Remote::Tcp("10.0.0.7:4000".parse().unwrap());
    let info = Info::new(remote, Local::Tcp("10.0.0.1:80".parse().unwrap()), "web");
    let reply = soon(slot.front().answer(get("/"), Some(info))).await;
    assert_eq!(text(reply.into_body()).await, "web Some(10.0.0.7)");
}

#[tokio::test]
async fn what_a_route_says_to_filters_reaches_them_and_no_other_route() {
    let answer = json!({ "status": 200, "body": "ok" });
    let routes = table(json!([
        {
            "match": { "path": "/fault" },
            "direct_response": answer,
            "per_filter_config": { "fault": { "abort": { "percentage": 100, "status": 418 } } },
        },
        {
            "match": { "path": "/small" },
            "direct_response": answer,
            "per_filter_config": { "payload_limit": { "max_entity_size": 3 } },
        },
        { "direct_response": answer },
    ]));
    let filters = vec![filter("fault", json!({})), filter("payload_limit", json!({}))];
    let front = proxy(filters, routes, Clusters::default());
    let post = |path: &str| {
        let request = http::Request::post(path).header("host", "test");
        request.body(Body::from("1234")).unwrap()
    };
    for (path, expected) in [("/fault", 418), ("/small", 413), ("/", 200)] {
        assert_eq!(ask(&front, post(path)).await.0, expected, "{path}");
    }
    assert_eq!(ask(&front, get("/small")).await.0, 200);
}

#[tokio::test]
async fn a_fault_of_one_cluster_spares_the_others_and_both_see_the_same_choice() {
    let (a, b) = (
        Server::start(Protocol::Http1, async |_| Response::new("a".into())).await,
        Server::start(Protocol::Http1, async |_| Response::new("b".into())).await,
    );
    let config = |name: &str, server: &Server| ClusterConfig {
        name: name.into(),
        hosts: vec![host(server.address.to_string())],
        ..ClusterConfig::default()
    };
    let routes = table(json!([
        { "match": { "path": "/a" }, "route": { "cluster_name": "a" } },
        { "match": { "path": "/b" }, "route": { "cluster_name": "b" } },
        { "route": { "weighted_clusters": [
            { "cluster": { "name": "a", "weight": 1 } },
            { "cluster": { "name": "b", "weight": 1 } },
        ] } },
    ]));
    let fault = json!({ "abort": { "percentage": 100, "status": 418 }, "upstream_cluster": "a" });
    let clusters = clusters(vec![config("a", &a), config("b", &b)]);
    let front = proxy(vec![filter("fault", fault)], routes, clusters);
    assert_eq!(ask(&front, get("/a")).await.0, 418);
    assert_eq!(ask(&front, get("/b")).await, (200, "b".into()));
    let mut failed = 0;
    for _ in 0..60 {
        match ask(&front, get("/")).await {
            (418, _) => failed += 1,
            (status, body) => assert_eq!((status, body.as_str()), (200, "b")),
        }
    }
    assert!((1..60).contains(&failed), "{failed} of 60");
    assert_eq!((a.seen.requests(), b.seen.requests()), (0, 61 - failed));
}
