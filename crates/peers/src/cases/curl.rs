//! curl, from each version of HTTP to each.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use layotto_peers::{
    origin::{GZIP, Origin},
    proxy::{Kind, Plan, Protocol, Proxy},
};

use super::output;
use crate::runner::{Case, Ignored, Lab};

const LARGE: usize = 10 << 20;

pub fn cases() -> Vec<Case> {
    let ways = [
        ("http1_to_http1", Protocol::Http1, Protocol::Http1),
        ("http1_to_http2", Protocol::Http1, Protocol::Http2),
        ("http2_to_http1", Protocol::Http2, Protocol::Http1),
        ("http2_to_http2", Protocol::Http2, Protocol::Http2),
    ];
    let way = |(name, front, back)| {
        Case::new(format!("curl::{name}"), &["curl"], move |lab| async move {
            let origin = Origin::start().await?;
            let plan = Plan {
                front,
                back,
                ..Plan::of(front, origin.address)
            };
            if lab.kind == Kind::Nginx && back == Protocol::Http2 {
                return Err(Ignored("nginx 1.22 speaks HTTP/2 to gRPC servers only".into()).into());
            }
            let proxy = Proxy::start(lab.kind, &plan).await?;
            let curl = Curl::new(front, proxy.address, &[lab.kind]);
            whole(&curl).await?;
            trailers(&curl, lab, back).await
        })
    };
    ways.into_iter().map(way).collect()
}

/// curl with one version of HTTP.
pub struct Curl {
    front: Protocol,
    address: SocketAddr,
    /// How much is echoed: nginx stops reading when the answer begins before the request ends.
    echo: usize,
}

/// What curl printed.
struct Answer {
    head: String,
    body: Vec<u8>,
    log: String,
}

impl Curl {
    pub fn new(front: Protocol, address: SocketAddr, through: &[Kind]) -> Self {
        let echo = if through.contains(&Kind::Nginx) {
            LARGE / 1000
        } else {
            LARGE
        };
        Self { front, address, echo }
    }

    /// Asks for `path`; the answer's head is checked for the version of HTTP.
    async fn ask(&self, path: &str, more: &[&str]) -> Result<Answer> {
        let version = match self.front {
            Protocol::Http1 => "--http1.1",
            Protocol::Http2 => "--http2-prior-knowledge",
        };
        let folder = tempfile::tempdir()?;
        let (head, body) = (folder.path().join("head"), folder.path().join("body"));
        let mut arguments = vec![version.into(), "-sSv".into(), "--max-time".into(), "30".into()];
        arguments.extend(["-D".into(), head.display().to_string()]);
        arguments.extend(["-o".into(), body.display().to_string()]);
        arguments.extend(more.iter().map(ToString::to_string));
        arguments.push(format!("http://{}{path}", self.address));
        let output = output("curl", arguments).await?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{path}: {}\n{log}", output.status);
        let head = std::fs::read_to_string(head)?;
        let expected = match self.front {
            Protocol::Http1 => "HTTP/1.1 ",
            Protocol::Http2 => "HTTP/2 ",
        };
        ensure!(head.starts_with(expected), "{path}: {head}");
        Ok(Answer {
            head,
            body: std::fs::read(body).unwrap_or_default(),
            log,
        })
    }
}

impl Answer {
    /// The last status; there may be a 100 before it.
    fn status(&self) -> Result<u16> {
        let mut lines = self.head.lines().filter(|line| line.starts_with("HTTP/"));
        let status = lines.next_back().and_then(|line| line.split(' ').nth(1));
        Ok(status.context("no status")?.parse()?)
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(found.1.trim())
    }
}

/// All that any proxy should let through as it is.
pub async fn whole(curl: &Curl) -> Result<()> {
    large_bodies(curl).await?;
    expectation(curl).await?;
    untouched(curl).await?;
    without_body(curl).await?;
    large_field(curl).await
}

async fn large_bodies(curl: &Curl) -> Result<()> {
    let down = curl.ask(&format!("/bytes/{LARGE}"), &[]).await?;
    ensure!(
        down.status()? == 200 && down.body.len() == LARGE,
        "{} bytes came down",
        down.body.len()
    );
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("up");
    let content: Vec<u8> = (0..LARGE).map(|byte| (byte * 31 % 251) as u8).collect();
    std::fs::write(&file, &content)?;
    let data = format!("@{}", file.display());
    let up = curl.ask("/count", &["--data-binary", &data]).await?;
    ensure!(
        up.body == LARGE.to_string().as_bytes(),
        "{} bytes went up",
        String::from_utf8_lossy(&up.body)
    );
    std::fs::write(&file, &content[..curl.echo])?;
    let both = curl.ask("/echo", &["--data-binary", &data]).await?;
    ensure!(both.body == content[..curl.echo], "the echo differs");
    if curl.front == Protocol::Http1 {
        let more = ["-H", "transfer-encoding: chunked", "--data-binary", &data];
        let both = curl.ask("/echo", &more).await?;
        ensure!(both.body == content[..curl.echo], "the echo of chunks differs");
    }
    Ok(())
}

async fn expectation(curl: &Curl) -> Result<()> {
    // Over HTTP/2 curl sends the body without being told to, after this time.
    let patience = if curl.front == Protocol::Http1 {
        "20"
    } else {
        "0.1"
    };
    let more = [
        "-H",
        "expect: 100-continue",
        "--expect100-timeout",
        patience,
        "-d",
        "hello",
    ];
    // The origin reads all before it answers, so that there is something to wait for.
    let answer = curl.ask("/count", &more).await?;
    ensure!(answer.body == b"5", "{}", answer.log);
    if curl.front == Protocol::Http1 {
        ensure!(answer.log.contains("< HTTP/1.1 100"), "no 100: {}", answer.log);
    }
    Ok(())
}

async fn untouched(curl: &Curl) -> Result<()> {
    let answer = curl.ask("/gzip", &["-H", "accept-encoding: gzip"]).await?;
    ensure!(
        answer.field("content-encoding") == Some("gzip") && answer.body == GZIP,
        "{}",
        answer.head
    );
    let more = ["-H", "x-custom: a, b", "-H", "cookie: c=d; e=f"];
    let answer = curl.ask("/seen", &more).await?;
    let seen = String::from_utf8_lossy(&answer.body).into_owned();
    for line in ["x-custom: a, b", "c=d", "e=f"] {
        ensure!(seen.contains(line), "{line} is not in {seen}");
    }
    Ok(())
}

async fn without_body(curl: &Curl) -> Result<()> {
    let answer = curl.ask("/bytes/1000", &["--head"]).await?;
    ensure!(answer.field("content-length") == Some("1000"), "{}", answer.head);
    for status in [204, 304, 404, 503] {
        let path = format!("/status/{status}");
        let answer = curl.ask(&path, &[]).await?;
        ensure!(
            answer.status()? == status && answer.body.is_empty(),
            "{}",
            answer.head
        );
    }
    Ok(())
}

async fn large_field(curl: &Curl) -> Result<()> {
    let answer = curl.ask("/header/6000", &[]).await?;
    let length = answer.field("x-large").map(str::len);
    ensure!(length == Some(6000), "{length:?} bytes of a field");
    let field = format!("x-large: {}", "h".repeat(6000));
    let answer = curl.ask("/seen", &["-H", &field]).await?;
    ensure!(
        String::from_utf8_lossy(&answer.body).contains(&field),
        "a large field of a request is gone"
    );
    Ok(())
}

async fn trailers(curl: &Curl, lab: Lab, back: Protocol) -> Result<()> {
    // HAProxy 2.6 and nginx drop those of HTTP/1.1.
    if matches!(lab.kind, Kind::Nginx | Kind::HaProxy) && back == Protocol::Http1 {
        return Ok(());
    }
    let answer = curl.ask("/trailers", &["-H", "te: trailers"]).await?;
    ensure!(answer.body == b"hello", "{:?}", answer.body);
    ensure!(
        answer.field("x-end") == Some("yes"),
        "no trailers: {}",
        answer.head
    );
    Ok(())
}
