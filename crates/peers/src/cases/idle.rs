//! Thousands of connections that are open and quiet.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream};
use layotto_peers::{
    load::grpc::{Client, message},
    origin::Origin,
    process::raise_file_limit,
    proxy::{Plan, Protocol, Proxy},
};
use tokio::time::timeout;

use crate::runner::{Case, Lab};

/// Bound of the memory of one, in any build; what a release needs is measured by the benchmarks.
const MOST: u64 = 64 << 10;
/// Longest wait for a connection and its first answer.
const LIMIT: Duration = Duration::from_secs(20);
/// How soon a call is answered beside them.
const PROMPT: Duration = Duration::from_millis(500);

pub fn cases() -> Vec<Case> {
    vec![Case::long("idle::connections", &[], connections)]
}

async fn connections(lab: Lab) -> Result<()> {
    let wanted = if lab.soak { 10_000 } else { 2_000 };
    // The proxy's own, and some for the back end.
    let count = wanted.min(usize::try_from(raise_file_limit())?.saturating_sub(500));
    let origin = Origin::start().await?;
    let proxy = Proxy::start(lab.kind, &Plan::of(Protocol::Http2, origin.address)).await?;
    let call = message(&[b'x'; 100]);
    Client::connect(proxy.address)
        .await?
        .call("/a.B/C", &call)
        .await?;
    let before = proxy.process.resident()?;
    let open = |number| {
        let opened = timeout(LIMIT, opened(proxy.address, call.clone()));
        async move { opened.await?.with_context(|| format!("connection {number}")) }
    };
    let mut clients = Vec::new();
    let mut opening = stream::iter((0..count).map(open)).buffer_unordered(32);
    while let Some(client) = opening.next().await {
        clients.push(client?);
    }
    let each = proxy.process.resident()?.saturating_sub(before) / count as u64;
    println!("idle: {count} connections, {each} bytes of resident memory each");
    ensure!(each <= MOST, "{each} bytes for each connection");
    let begun = Instant::now();
    Client::connect(proxy.address)
        .await?
        .call("/a.B/C", &call)
        .await?;
    ensure!(begun.elapsed() < PROMPT, "a new call took {:?}", begun.elapsed());
    // None was given up.
    for mut client in clients {
        client.call("/a.B/C", &call).await?;
    }
    Ok(())
}

/// A connection that has made one call.
async fn opened(address: SocketAddr, call: Bytes) -> Result<Client> {
    let mut client = Client::connect(address).await?;
    client.call("/a.B/C", &call).await?;
    Ok(client)
}
