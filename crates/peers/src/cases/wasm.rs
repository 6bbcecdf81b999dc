//! One Proxy-Wasm module as a filter of layotto and of Envoy: what clients and the back end see is the
//! same.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use layotto_peers::{
    origin::Origin,
    proxy::{Kind, Plan, Protocol, Proxy},
};

use super::{output, succeed};
use crate::runner::{Case, Ignored, Lab};

/// Lets requests through whose `x-api-key` is right.
const MODULE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/functions/built/rust-auth.wasm"
);
const KEY: &str = "x-api-key: open-sesame";

pub fn cases() -> Vec<Case> {
    vec![Case::new("wasm::auth_filter", &["curl", "envoy"], auth_filter)]
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

async fn auth_filter(lab: Lab) -> Result<()> {
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

async fn has_the_filter() -> Result<bool> {
    let asked = output("layotto", ["reference", "filter", "proxywasm"]).await?;
    Ok(asked.status.success())
}

/// Without a key, with a wrong one, with the right one.
async fn answers(kind: Kind) -> Result<[Answer; 3]> {
    let origin = Origin::start().await?;
    ensure!(Path::new(MODULE).is_file(), "{MODULE} is missing");
    let plan = Plan {
        filter: Some(MODULE.into()),
        ..Plan::of(Protocol::Http1, origin.address)
    };
    let proxy = Proxy::start(kind, &plan).await?;
    let url = format!("http://{}/seen", proxy.address);
    let refused = ask(&url, "x-other: 1").await?;
    let wrong = ask(&url, "x-api-key: wrong").await?;
    ensure!(origin.requests() == 0, "{} let something through", kind.name());
    Ok([refused, wrong, ask(&url, KEY).await?])
}

async fn ask(url: &str, field: &str) -> Result<Answer> {
    let printed = succeed("curl", ["-sS", "-i", "-H", field, url]).await?;
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
    Ok(Answer {
        status: status.unwrap_or_default().to_owned(),
        fields: fields.collect(),
        // Only what the module did; each proxy adds fields of its own.
        body: of_module(body),
    })
}

/// The body, but of the fields that the back end saw only those of the module.
fn of_module(body: &str) -> String {
    let own = |line: &&str| {
        !line.contains(": ") || line.starts_with("x-authenticated-by") || line.starts_with("x-api-key")
    };
    body.lines().filter(own).map(|line| format!("{line}\n")).collect()
}
