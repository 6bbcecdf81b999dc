//! One recorded case, run against the real binary.

use std::{collections::HashMap, fs, path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use layotto_testkit::{HttpService, raw_tcp::RawTcp};
use serde_json::{Map, Value as Json, json};

use super::{
    backend::BackEnds,
    callback::App,
    client::{Client, Stream, Target},
    diff::{Difference, Rules},
};
use crate::sidecar::{self, PATIENCE, Sidecar};

/// How long a subscription may take to be made.
const SUBSCRIBED: Duration = Duration::from_secs(2);

/// What the raw HTTP service of the recordings answered to everything.
const RAW_ANSWER: &str = "HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\
     Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nok";

/// Runs one case and returns how it differs from the recording.
pub async fn run(case: &Json) -> Vec<Difference> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let http = HttpService::start().await;
    let raw = RawTcp::start(RAW_ANSWER).await;
    let ports = [0; 6].map(|_| sidecar::free_port());
    let [grpc, actuator, callback, closed, metrics, extra] = ports;
    let local = |port: u16| format!("127.0.0.1:{port}");
    // A listener of the case took the place of the raw service.
    let tcp = match case["setup"].get("extra_listeners") {
        Some(_) => local(extra),
        None => raw.addr.to_string(),
    };
    let back_ends = BackEnds::start(case).await;
    let mut placeholders = vec![
        ("${HTTP}", http.addr.to_string()),
        ("${TCP}", tcp),
        ("${LAYOTTO}", local(grpc)),
        ("${ACTUATOR}", local(actuator)),
        ("${METRICS}", local(metrics)),
        ("${CALLBACK_PORT}", callback.to_string()),
        ("${CALLBACK}", local(callback)),
        ("${CLOSED}", local(closed)),
        ("${DIR}", folder.path().display().to_string()),
    ];
    placeholders.extend(back_ends.placeholders());
    let case: Json = serde_json::from_str(&fill(&case.to_string(), &placeholders)).unwrap();
    let setup = case.get("setup").cloned().unwrap_or_default();
    write_files(&setup);
    for (name, held) in setup
        .get("back_ends")
        .and_then(Json::as_object)
        .into_iter()
        .flatten()
    {
        back_ends.fill(name, held).await;
    }
    let app = match setup.get("app_callback") {
        Some(app) => Some(App::start(callback, app).await),
        None => None,
    };
    let rules = rules(&case);
    let is_whole_file = case["config"].get("servers").is_some();
    let mut config = if is_whole_file {
        case["config"].clone()
    } else {
        sidecar::config(grpc, actuator, &confined(&case["config"], folder.path()))
    };
    add(&setup, &mut config, metrics);
    let env = setup.get("env").and_then(Json::as_object).into_iter().flatten();
    let mut env: Vec<_> = env
        .map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()))
        .collect();
    env.push(("PATH".to_owned(), "/usr/bin:/bin".to_owned()));
    let mut process = Sidecar::with_config(folder.path(), &config, &env);
    let socket = folder.path().join("l.sock");
    let started = if is_whole_file {
        process.wait_for_file(&socket)
    } else {
        process.wait_for_port(grpc) && ready(actuator).await
    };
    let mut found = startup(&case, started, &mut process);
    if !started {
        return found;
    }
    let target = if is_whole_file {
        Target::Socket(socket)
    } else {
        Target::Port(grpc)
    };
    let mut run = Run {
        client: Client::new(&target),
        process,
        app,
        http,
        raw,
        ports: Ports {
            actuator,
            metrics,
            extra,
        },
        folder: folder.path().to_owned(),
        rules,
        streams: HashMap::new(),
        pending: None,
        renamed: HashMap::new(),
        is_proxied: setup.get("extra_listeners").is_some(),
        seen: (0, 0),
        back_ends,
        dumped: case["backend"].clone(),
        last_dump: case["steps"]
            .as_array()
            .unwrap()
            .iter()
            .rposition(|step| step.get("dump").is_some()),
    };
    for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        found.extend(run.step(&format!("steps.{index}"), step).await);
    }
    if case
        .get("after")
        .is_none_or(|after| after["process_exited"] == json!(0))
        && !run.process.is_gone()
    {
        run.process.signal(rustix::process::Signal::TERM);
        let status = run.process.wait_for_end();
        assert!(status.success(), "{status}: {}", run.process.output());
    }
    found
}

/// Puts what a case needs besides the runtime into the configuration.
fn add(setup: &Json, config: &mut Json, metrics: u16) {
    let server = &mut config["servers"][0];
    if let Some(filters) = setup.get("stream_filters") {
        server["listeners"][0]["stream_filters"] = filters.clone();
    }
    if let Some(routers) = setup.get("routers") {
        server["routers"] = routers.clone();
    }
    let extra = setup.get("extra_listeners").and_then(Json::as_array);
    if let (Some(extra), Some(listeners)) = (extra, server["listeners"].as_array_mut()) {
        listeners.extend(extra.iter().cloned());
    }
    for (key, value) in setup.get("top").and_then(Json::as_object).into_iter().flatten() {
        config[key] = value.clone();
    }
    if let Some(sinks) = setup.get("metrics") {
        config["metrics"] = sinks.clone();
        config["metrics"]["sinks"][0]["config"]["port"] = json!(metrics);
    }
}

fn fill(text: &str, placeholders: &[(&str, String)]) -> String {
    placeholders.iter().fold(text.to_owned(), |text, (name, value)| {
        // A port stands as a text where the file needs a number.
        let text = if *name == "${CALLBACK_PORT}" {
            text.replace("\"${CALLBACK_PORT}\"", value)
        } else {
            text
        };
        text.replace(name, value)
    })
}

/// `grpc_config` with the root of local files set: without one only the data directory is open.
fn confined(config: &Json, folder: &Path) -> Json {
    let mut config = config.clone();
    for store in config
        .get_mut("file")
        .and_then(Json::as_object_mut)
        .into_iter()
        .flatten()
    {
        if let Some(metadata) = store.1.get_mut("metadata").and_then(Json::as_object_mut) {
            metadata.insert("root".into(), json!(folder));
        }
    }
    config
}

fn write_files(setup: &Json) {
    for (path, content) in setup.get("files").and_then(Json::as_object).into_iter().flatten() {
        let content = match content.as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => STANDARD.decode(content["b64"].as_str().unwrap()).unwrap(),
        };
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn rules(case: &Json) -> Rules {
    let texts = |name: &str| -> Vec<String> {
        let list = case.get(name).and_then(Json::as_array).into_iter().flatten();
        list.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let unordered = case["steps"].as_array().unwrap().iter().enumerate();
    let unordered = unordered
        .filter_map(|(index, step)| Some(format!("steps.{index}.{}", step.get("unordered")?.as_str()?)));
    let mut volatile = texts("volatile");
    // How far a time to live may have gone on is looked at where it is read.
    volatile.retain(|path| !path.ends_with("(may be up to 2 lower)"));
    Rules {
        volatile,
        as_json: texts("compare_as_json"),
        unordered: unordered.collect(),
    }
}

/// Waits until every part of the process answered once.
async fn ready(actuator: u16) -> bool {
    let begun = std::time::Instant::now();
    while begun.elapsed() < PATIENCE {
        // A port that answers nothing yet belongs to a process that is starting, or has ended.
        if let Ok(answer) = super::http::try_get(actuator, "/actuator/health/readiness").await {
            return answer["status"].is_u64();
        }
        tokio::task::yield_now().await;
    }
    false
}

fn startup(case: &Json, started: bool, process: &mut Sidecar) -> Vec<Difference> {
    let expected = case
        .get("startup")
        .cloned()
        .unwrap_or_else(|| json!({"started": true}));
    let mut ours = json!({"started": started});
    if !started {
        ours["exit_code"] = json!(process.wait_for_end().code());
        let output = process.output();
        let panic = expected.get("panic").and_then(Json::as_str).unwrap_or_default();
        ours["panic"] = if output.contains(panic) {
            json!(panic)
        } else {
            json!(output)
        };
    }
    Rules::default().compare("startup", &expected, &ours)
}

/// Where HTTP requests of steps go.
struct Ports {
    actuator: u16,
    metrics: u16,
    /// The listener that the case adds.
    extra: u16,
}

impl Ports {
    fn of(&self, http: &Json) -> u16 {
        match http.get("listener").and_then(Json::as_str) {
            Some("metrics") => self.metrics,
            Some("tcpx") => self.extra,
            _ => self.actuator,
        }
    }
}

struct Run {
    client: Client,
    process: Sidecar,
    app: Option<App>,
    http: HttpService,
    raw: RawTcp,
    ports: Ports,
    folder: std::path::PathBuf,
    rules: Rules,
    streams: HashMap<String, Stream>,
    /// A call that was started and not awaited, and its method.
    pending: Option<(Json, tokio::task::JoinHandle<Map<String, Json>>)>,
    /// Ids of the recording and those that stand for them now.
    renamed: HashMap<String, String>,
    /// Whether requests come through a listener rather than from the runtime.
    is_proxied: bool,
    /// Requests of the HTTP service and the raw one that steps have looked at.
    seen: (usize, usize),
    back_ends: BackEnds,
    /// What the products held at the last step that dumps them.
    dumped: Json,
    last_dump: Option<usize>,
}

impl Run {
    async fn step(&mut self, at: &str, step: &Json) -> Vec<Difference> {
        let millis = |name: &str| step.get(name).and_then(Json::as_u64).map(Duration::from_millis);
        if let Some(pause) = millis("sleep_ms") {
            // The recording waited for time itself to pass: a lease, a window.
            tokio::time::sleep(pause).await;
            return Vec::new();
        }
        if step.get("dump").is_some() {
            return self.dump(at, step).await;
        }
        if step.get("redis").is_some() {
            let ours = self.back_ends.command(step).await;
            return self.rules.compare(&format!("{at}.reply"), &step["reply"], &ours);
        }
        if step.get("callback").is_some() || step.get("no_callback_for_ms").is_some() {
            return self.callback(at, step).await;
        }
        if let Some(stream) = step.get("open") {
            let opened = self.client.open(step);
            self.streams.insert(stream.as_str().unwrap().to_owned(), opened);
            return Vec::new();
        }
        if step.get("stream").is_some() {
            return self.stream(at, step).await;
        }
        if step.get("await").is_some() {
            return self.awaited(at, step).await;
        }
        if step.get("method").is_some() {
            return self.call(at, step).await;
        }
        if step.get("http").is_some() {
            let port = self.ports.of(&step["http"]);
            let mut ours = super::http::request(port, &step["http"]).await;
            if step["http_response"].get("body_lines").is_some() {
                let body = ours["body"].take();
                ours["figures"] = figures(body.as_str().unwrap_or_default().lines());
            }
            return self.rules.compare(
                &format!("{at}.http_response"),
                &http_expected(&step["http_response"]),
                &ours,
            );
        }
        if let Some(expected) = step.get("upstream_http") {
            let mut ours = self.upstream_http().await;
            let mut expected = upstream_expected(expected);
            if self.is_proxied {
                // How the names are written is up to each hop.
                lower_names(&mut ours["headers"]);
                lower_names(&mut expected["headers"]);
            }
            return self
                .rules
                .compare(&format!("{at}.upstream_http"), &expected, &ours);
        }
        if let Some(expected) = step.get("upstream_raw_request") {
            let ours = self.raw_request().await;
            return Rules::default().compare(&format!("{at}.upstream_raw_request"), &parsed(expected), &ours);
        }
        if let Some(pause) = millis("no_upstream_http_for_ms") {
            tokio::time::sleep(pause).await;
            let ours = json!(self.http.requests().len() - self.seen.0);
            return self
                .rules
                .compare(&format!("{at}.upstream_requests"), &json!(0), &ours);
        }
        if let Some(signal) = step.get("signal") {
            return self.signal(at, step, signal.as_str().unwrap());
        }
        if let Some(mode) = step.get("socket_file_mode") {
            use std::os::unix::fs::MetadataExt;

            let ours = format!("{:#o}", fs::metadata(self.folder.join("l.sock")).unwrap().mode());
            return self
                .rules
                .compare(&format!("{at}.socket_file_mode"), mode, &json!(ours));
        }
        let remark = step["note"].as_str();
        let remark = remark.unwrap_or_else(|| panic!("unknown step {step}"));
        self.back_ends.note(remark).await;
        if remark.contains("running again") {
            self.answers().await;
        }
        Vec::new()
    }

    /// Waits until state can be read: a product that is back is found in a moment.
    async fn answers(&self) {
        let get = json!({
            "method": "spec.proto.runtime.v1.Runtime/GetState",
            "request": {"store_name": "state_demo", "key": "probe"},
        });
        let begun = std::time::Instant::now();
        while self
            .client
            .call(&get)
            .await
            .get("code")
            .is_some_and(|code| *code != "OK")
        {
            assert!(begun.elapsed() < PATIENCE, "the product is not found again");
            tokio::task::yield_now().await;
        }
    }

    /// Only the last dump was recorded.
    async fn dump(&self, at: &str, step: &Json) -> Vec<Difference> {
        if self.last_dump.is_none_or(|last| at != format!("steps.{last}")) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (name, held) in self.back_ends.dump(step, &self.dumped).await {
            let at = format!("backend.{name}");
            found.extend(self.rules.compare(&at, &self.dumped[&name], &held));
        }
        found
    }

    async fn callback(&mut self, at: &str, step: &Json) -> Vec<Difference> {
        if let Some(pause) = step.get("no_callback_for_ms").and_then(Json::as_u64) {
            let came = match &mut self.app {
                Some(app) => app.next(Duration::from_millis(pause)).await,
                None => None,
            };
            return self
                .rules
                .compare(&format!("{at}.callback"), &Json::Null, &came.unwrap_or_default());
        }
        let app = self
            .app
            .as_mut()
            .expect("a case with callbacks has an application");
        let came = app.next(PATIENCE).await.unwrap_or_default();
        let expected = &step["callback"];
        let wanted = json!({"method": expected["method"], "request": expected["request"]});
        if expected["method"]
            .as_str()
            .is_some_and(|method| method.ends_with("/ListTopicSubscriptions"))
        {
            self.wait_for_subscriptions(&expected["reply"]).await;
        }
        self.rules.compare(&format!("{at}.callback"), &wanted, &came)
    }

    /// The recording published at once; here a subscription exists a moment after it was listed.
    async fn wait_for_subscriptions(&self, reply: &Json) {
        let wanted = reply
            .get("subscriptions")
            .and_then(Json::as_array)
            .map_or(0, Vec::len);
        let begun = std::time::Instant::now();
        while begun.elapsed() < PATIENCE {
            let info = super::http::try_get(self.ports.actuator, "/actuator/info")
                .await
                .unwrap_or_default();
            if info["body_json"]["subscriptions"]
                .as_array()
                .is_some_and(|list| list.len() >= wanted.min(1))
            {
                return;
            }
        }
    }

    async fn call(&mut self, at: &str, step: &Json) -> Vec<Difference> {
        if let Some(times) = step.get("repeat").and_then(Json::as_u64) {
            return self.repeat(at, step, times).await;
        }
        if step.get("async").is_some() {
            let (client, call) = (self.client.clone(), step.clone());
            let task = tokio::spawn(async move { client.call(&call).await });
            self.pending = Some((step["method"].clone(), task));
            return Vec::new();
        }
        let ours = self.client.call(step).await;
        self.outcome(at, step, ours)
    }

    fn outcome(&self, at: &str, step: &Json, mut ours: Map<String, Json>) -> Vec<Difference> {
        let mut found = Vec::new();
        let takes = [
            "response",
            "response_bytes",
            "responses",
            "code",
            "message",
            "initial_metadata",
            "trailing_metadata",
        ];
        for name in takes {
            // Where the recording has bytes, the message is not compared.
            let is_bytes = step.get("response_bytes").is_some();
            if (name == "response" && is_bytes) || (name == "response_bytes" && !is_bytes) {
                continue;
            }
            // What the recording leaves out is absent, or empty.
            let mut expected = step.get(name).cloned().unwrap_or_default();
            let mut ours = ours.remove(name).unwrap_or_default();
            for json in [&mut ours, &mut expected] {
                let empty =
                    json.as_object().is_some_and(Map::is_empty) || *json == json!([]) || *json == json!("OK");
                if empty && name != "response" {
                    *json = Json::Null;
                }
            }
            found.extend(self.rules.compare(&format!("{at}.{name}"), &expected, &ours));
        }
        found
    }

    async fn awaited(&mut self, at: &str, step: &Json) -> Vec<Difference> {
        let Some((method, mut task)) = self.pending.take() else {
            panic!("nothing to await at {at}")
        };
        if let Some(pause) = step.get("nothing_for_ms").and_then(Json::as_u64) {
            let done = tokio::time::timeout(Duration::from_millis(pause), &mut task).await;
            let ours = done.map_or(Json::Null, |outcome| json!(outcome.unwrap()));
            return self.rules.compare(&format!("{at}.answer"), &Json::Null, &ours);
        }
        let ours = task.await.unwrap();
        let mut expected = step.clone();
        expected["method"] = method;
        self.outcome(at, &expected, ours)
    }

    async fn repeat(&self, at: &str, step: &Json, times: u64) -> Vec<Difference> {
        let mut ids = Vec::new();
        for _ in 0..times {
            let outcome = self.client.call(step).await;
            ids.push(
                outcome["response"]["next_id"]
                    .as_str()
                    .unwrap_or_default()
                    .parse::<i64>()
                    .unwrap(),
            );
        }
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let gaps: Vec<_> = distinct
            .windows(2)
            .filter(|pair| pair[1] != pair[0] + 1)
            .collect();
        let ours = json!({
            "first": ids.first().map(i64::to_string), "last": ids.last().map(i64::to_string),
            "distinct": distinct.len(), "strictly_increasing": ids.is_sorted_by(|a, b| a < b), "gaps": gaps,
        });
        self.rules
            .compare(&format!("{at}.summary"), &step["summary"], &ours)
    }

    async fn stream(&mut self, at: &str, step: &Json) -> Vec<Difference> {
        let stream = self.streams.get_mut(step["stream"].as_str().unwrap()).unwrap();
        if let Some(message) = step.get("send") {
            let mut text = message.to_string();
            for (recorded, now) in &self.renamed {
                text = text.replace(recorded, now);
            }
            let before = self.back_ends.watchers().await;
            stream.send(&serde_json::from_str(&text).unwrap()).await;
            // Nobody is told when a subscription is made, and what is written next must not be sooner.
            // There is none where it is refused.
            let begun = std::time::Instant::now();
            let is_made = async || self.back_ends.watchers().await > before;
            while before.is_some() && !is_made().await && begun.elapsed() < SUBSCRIBED {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            return Vec::new();
        }
        if step.get("half_close").is_some() {
            stream.half_close();
            return Vec::new();
        }
        if step.get("cancel").is_some() {
            stream.cancel();
            return Vec::new();
        }
        if let Some(pause) = step.get("recv_nothing_for_ms").and_then(Json::as_u64) {
            let came = stream
                .next(Duration::from_millis(pause))
                .await
                .unwrap_or_default();
            return self.rules.compare(&format!("{at}.nothing"), &Json::Null, &came);
        }
        let came = stream
            .next(PATIENCE.min(Duration::from_secs(5)))
            .await
            .unwrap_or_default();
        if let Some(expected) = step.get("recv") {
            let event = |json: &Json| json["event_message"]["id"].as_str().map(str::to_owned);
            if let (Some(recorded), Some(now)) = (event(expected), event(&came["recv"])) {
                self.renamed.insert(recorded, now);
            }
        }
        let wanted: Map<_, _> = ["recv", "status"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), step.get(*name)?.clone())))
            .collect();
        self.rules.compare(at, &Json::Object(wanted), &came)
    }

    async fn upstream_http(&mut self) -> Json {
        let begun = std::time::Instant::now();
        while self.http.requests().len() <= self.seen.0 && begun.elapsed() < PATIENCE {
            tokio::task::yield_now().await;
        }
        let request = self.http.requests().get(self.seen.0).cloned();
        self.seen.0 += 1;
        let Some(request) = request else { return Json::Null };
        let headers = request
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(recorded_agent(value))));
        let body = match std::str::from_utf8(&request.body) {
            Ok(text) if !text.contains('\0') => json!(text),
            _ => json!({"b64": STANDARD.encode(&request.body)}),
        };
        json!({
            "method": request.method, "target": request.target,
            "headers": headers.collect::<Map<_, _>>(), "body": body,
        })
    }

    async fn raw_request(&mut self) -> Json {
        self.seen.1 += 1;
        let requests = self.raw.wait_for(self.seen.1, PATIENCE).await;
        let request = requests.get(self.seen.1 - 1).cloned().unwrap_or_default();
        let text: String = request.iter().map(|byte| char::from(*byte)).collect();
        let lines = text.split("\r\n").map(recorded_agent).collect::<Vec<_>>();
        parsed(&json!(lines.join("\r\n")))
    }

    fn signal(&mut self, at: &str, step: &Json, name: &str) -> Vec<Difference> {
        self.process.signal(match name {
            "SIGINT" => rustix::process::Signal::INT,
            _ => rustix::process::Signal::TERM,
        });
        let ours = json!(self.process.wait_for_end().code());
        self.rules
            .compare(&format!("{at}.exit_code"), &step["exit_code"], &ours)
    }
}

/// The client's name without what the library adds to it.
fn recorded_agent(value: &str) -> &str {
    value.split(" tonic/").next().unwrap_or(value)
}

/// A recorded HTTP answer: only what it says is compared.
fn http_expected(recorded: &Json) -> Json {
    let mut expected = recorded.clone();
    if let Some(fields) = expected.as_object_mut() {
        fields.remove("body_json");
        if let Some(lines) = fields.remove("body_lines") {
            let lines = lines.as_array().into_iter().flatten().filter_map(Json::as_str);
            fields.insert("figures".into(), figures(lines));
        }
    }
    expected
}

/// The figures about gRPC calls on a page of metrics, and the kinds of them.
fn figures<'a>(lines: impl Iterator<Item = &'a str>) -> Json {
    let figure = |line: &'a str| {
        let (name, value) = line.rsplit_once(' ')?;
        let plain = name.strip_prefix("# TYPE ").unwrap_or(name);
        let number = value.parse::<f64>().map_or(json!(value), |number| json!(number));
        plain.starts_with("grpc_").then(|| (name.to_owned(), number))
    };
    lines.filter_map(figure).collect::<Map<_, _>>().into()
}

/// Header lists as objects, so that each header is compared by itself.
fn upstream_expected(recorded: &Json) -> Json {
    let mut expected = recorded.clone();
    let headers = recorded["headers"].as_array().into_iter().flatten();
    let headers = headers.map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()));
    expected["headers"] = headers.collect::<Map<_, _>>().into();
    expected
}

fn lower_names(headers: &mut Json) {
    if let Some(map) = headers.as_object_mut() {
        let lower = std::mem::take(map).into_iter();
        *map = lower.map(|(name, value)| (name.to_lowercase(), value)).collect();
    }
}

/// A request on the wire, its headers by name: their order is not fixed.
fn parsed(raw: &Json) -> Json {
    let raw = raw.as_str().unwrap_or_default();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or((raw, ""));
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let headers = lines.map(|line| {
        let (name, value) = line
            .get(1..)
            .and_then(|rest| rest.split_once(": "))
            .unwrap_or((line, ""));
        (
            format!("{}{name}", line.chars().next().unwrap_or_default()),
            json!(value),
        )
    });
    json!({"line": line, "headers": headers.collect::<Map<_, _>>(), "body": body})
}
