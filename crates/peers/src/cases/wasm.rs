//! Proxy-Wasm modules as filters of layotto and of Envoy: what clients and the back end see is the
//! same.

use std::{collections::BTreeMap, fmt::Debug, path::PathBuf};

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use layotto_peers::{
    origin::Origin,
    proxy::{Kind, Plan, Protocol, Proxy},
};
use layotto_testkit::soon::until;

use super::{output, succeed};
use crate::runner::{Case, Ignored, Lab};

const KEY: &str = "x-api-key: open-sesame";
const NOTHING: &str = "x-other: 1";

pub fn cases() -> Vec<Case> {
    let needs = &["curl", "envoy"];
    vec![
        Case::new("wasm::auth_filter", needs, auth_filter),
        Case::new("wasm::grpc_filter", needs, grpc_filter),
    ]
}

/// What a client sees of an answer.
#[derive(Debug, PartialEq)]
struct Answer {
    status: String,
    /// Those that the module has to do with.
    fields: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    /// Whether the module saw it go by as a reply; it sees its own local responses, too.
    fn is_filtered(&self) -> bool {
        self.fields
            .get("x-filtered-by")
            .is_some_and(|by| by == "auth.wasm")
    }
}

/// The answers that a module gives in one proxy and in the other, which must be the same.
async fn the_same<T: PartialEq + Debug>(
    lab: Lab,
    answers: impl Fn(Kind) -> BoxFuture<'static, Result<T>>,
) -> Result<T> {
    if !matches!(lab.kind, Kind::Layotto | Kind::Envoy) {
        return Err(Ignored("it has no host for such modules".into()).into());
    }
    if lab.kind == Kind::Layotto && !has_the_filter().await? {
        return Err(Ignored("this build has no stream filter proxywasm".into()).into());
    }
    let ours = answers(lab.kind).await?;
    let theirs = answers(Kind::Envoy).await?;
    ensure!(
        ours == theirs,
        "{} answers {ours:#?}\nEnvoy answers {theirs:#?}",
        lab.kind.name()
    );
    Ok(ours)
}

async fn has_the_filter() -> Result<bool> {
    let asked = output("layotto", ["reference", "filter", "proxywasm"]).await?;
    Ok(asked.status.success())
}

/// A proxy with an example in Rust before a back end.
async fn with(kind: Kind, example: &str, back: Protocol, origin: &Origin) -> Result<Proxy> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/functions/built");
    let module = PathBuf::from(format!("{built}/rust-{example}.wasm"));
    ensure!(module.is_file(), "{} is missing", module.display());
    let plan = Plan {
        filter: Some(module),
        ..Plan::of(back, origin.address)
    };
    Proxy::start(kind, &plan).await
}

/// Lets requests through whose `x-api-key` is right.
async fn auth_filter(lab: Lab) -> Result<()> {
    let ours = the_same(lab, |kind| Box::pin(by_key(kind))).await?;
    let [refused, wrong, passed] = &ours;
    for answer in [refused, wrong] {
        let asks = answer.fields.get("www-authenticate").map(String::as_str);
        ensure!(
            answer.status == "401"
                && answer.is_filtered()
                && asks == Some("Key")
                && answer.body == "x-api-key is missing or wrong\n",
            "not refused: {answer:?}"
        );
    }
    ensure!(
        passed.status == "200" && passed.is_filtered(),
        "not let through: {passed:?}"
    );
    let seen = |field| passed.body.lines().any(|line| line.starts_with(field));
    ensure!(
        seen("x-authenticated-by: auth.wasm") && !seen("x-api-key"),
        "the back end saw {}",
        passed.body
    );
    Ok(())
}

/// Without a key, with a wrong one, with the right one.
async fn by_key(kind: Kind) -> Result<[Answer; 3]> {
    let origin = Origin::start().await?;
    let proxy = with(kind, "auth", Protocol::Http1, &origin).await?;
    let refused = ask(&proxy, NOTHING).await?;
    let wrong = ask(&proxy, "x-api-key: wrong").await?;
    ensure!(origin.requests() == 0, "{} let something through", kind.name());
    Ok([refused, wrong, ask(&proxy, KEY).await?])
}

/// Lets requests through once the back end says over gRPC that it serves.
async fn grpc_filter(lab: Lab) -> Result<()> {
    let [refused, waited, passed] = the_same(lab, |kind| Box::pin(by_health(kind))).await?;
    ensure!(
        refused.status == "503" && refused.body == "the back end does not serve: it says so\n",
        "not refused: {refused:?}"
    );
    for passed in [waited, passed] {
        ensure!(
            passed.status == "200" && passed.body == "x-health: serving\n",
            "not let through: {passed:?}"
        );
    }
    Ok(())
}

/// While it does not serve, when that changes, and then.
async fn by_health(kind: Kind) -> Result<[Answer; 3]> {
    let origin = Origin::start().await?;
    let proxy = with(kind, "health", Protocol::Http2, &origin).await?;
    let refused = ask(&proxy, NOTHING).await?;
    let changes = async {
        until(1, || origin.watches()).await;
        origin.serves(true);
    };
    let (waited, ()) = tokio::join!(ask(&proxy, "x-wait: 1"), changes);
    // The module cancelled it.
    until(0, || origin.watches()).await;
    Ok([refused, waited?, ask(&proxy, NOTHING).await?])
}

async fn ask(proxy: &Proxy, field: &str) -> Result<Answer> {
    let url = format!("http://{}/seen", proxy.address);
    let printed = succeed("curl", ["-sS", "-i", "-H", field, &url]).await?;
    let (head, body) = printed.split_once("\r\n\r\n").context("no head")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let fields = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let name = name.to_ascii_lowercase();
        ["www-authenticate", "x-filtered-by"]
            .contains(&name.as_str())
            .then(|| (name, value.to_owned()))
    });
    let status = status.unwrap_or_default();
    Ok(Answer {
        status: status.to_owned(),
        fields: fields.collect(),
        body: match status {
            "200" => of_module(body),
            _ => body.to_owned(),
        },
    })
}

/// Of the fields that the back end saw those that the modules have to do with: each proxy adds fields
/// of its own.
fn of_module(body: &str) -> String {
    let names = ["x-authenticated-by", "x-api-key", "x-health"];
    let own = |line: &&str| names.iter().any(|name| line.starts_with(name));
    body.lines().filter(own).map(|line| format!("{line}\n")).collect()
}
