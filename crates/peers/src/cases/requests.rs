//! Many requests by h2load and wrk, and not one lost.

use anyhow::{Result, ensure};
use layotto_peers::{
    origin::Origin,
    proxy::{Plan, Protocol, Proxy},
};

use super::{output, succeed};
use crate::runner::Case;

/// Connections to the back end that 16 clients may need.
const MOST_KEPT: u64 = 64;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("load::h2load_http2", &["h2load"], |lab| async move {
            let origin = Origin::start().await?;
            let plan = Plan {
                front: Protocol::Http2,
                ..Plan::of(Protocol::Http1, origin.address)
            };
            let proxy = Proxy::start(lab.kind, &plan).await?;
            let url = format!("http://{}/bytes/100", proxy.address);
            h2load(&["-n5000", "-c8", "-m16", &url], 5000).await
        }),
        Case::new("load::h2load_http2_large", &["h2load"], |lab| async move {
            let origin = Origin::start().await?;
            let plan = Plan {
                front: Protocol::Http2,
                ..Plan::of(Protocol::Http1, origin.address)
            };
            let proxy = Proxy::start(lab.kind, &plan).await?;
            let url = format!("http://{}/bytes/1000000", proxy.address);
            h2load(&["-n200", "-c4", "-m8", &url], 200).await
        }),
        Case::new("load::h2load_http1", &["h2load"], |lab| async move {
            let origin = Origin::start().await?;
            let proxy = Proxy::start(lab.kind, &Plan::of(Protocol::Http1, origin.address)).await?;
            let url = format!("http://{}/bytes/100", proxy.address);
            h2load(&["--h1", "-n5000", "-c16", &url], 5000).await
        }),
        Case::new("load::wrk_http1", &["wrk"], |lab| async move {
            let origin = Origin::start().await?;
            let proxy = Proxy::start(lab.kind, &Plan::of(Protocol::Http1, origin.address)).await?;
            let url = format!("http://{}/bytes/100", proxy.address);
            let printed = output("wrk", ["-t1", "-c16", "-d2s", &url]).await?;
            let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
            let good = printed.contains("requests in")
                && !printed.contains(" 0 requests in")
                && !printed.contains("Non-2xx")
                && !printed.contains("Socket errors");
            ensure!(good, "{printed}");
            let connections = origin.connections();
            ensure!(
                connections <= MOST_KEPT,
                "{connections} connections to the back end"
            );
            Ok(())
        }),
    ]
}

async fn h2load(arguments: &[&str], count: u32) -> Result<()> {
    let printed = succeed("h2load", arguments).await?;
    let all = format!("{count} succeeded, 0 failed, 0 errored, 0 timeout");
    let codes = format!("status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx");
    ensure!(printed.contains(&all) && printed.contains(&codes), "{printed}");
    Ok(())
}
