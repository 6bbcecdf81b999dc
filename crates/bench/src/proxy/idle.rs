//! What a connection costs that is open and quiet, and how much of it comes back.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, stream};
use layotto_peers::{
    load::grpc::Client,
    process::raise_file_limit,
    proxy::{Kind, Plan, Protocol},
};

use super::{
    METHOD, Running, greeter, greeting, start,
    table::{Bound, Figure, Line},
};
use crate::cases::Options;

const COUNT: usize = 3_500;
const CONTENDERS: [Kind; 4] = [Kind::HaProxy, Kind::Nginx, Kind::Envoy, Kind::Layotto];
/// Time after the last close in which the memory should be back.
const REST: Duration = Duration::from_secs(10);
const KIB: f64 = 1024.0;

/// Memory of a connection after one call, and the share of it that is back [`REST`] after the close.
pub async fn connections(options: &Options) -> Result<Vec<Line>> {
    raise_file_limit();
    let (_back, address) = greeter()?;
    let plan = Plan::of(Protocol::Http2, address);
    let (mut held, mut returned) = (Vec::new(), Vec::new());
    for kind in CONTENDERS {
        eprintln!("{COUNT} connections to {} …", kind.name());
        let (each, back) = match start(options, kind, &plan).await? {
            Ok(running) => measure(&running).await.map_or_else(
                |error| (Err(format!("{error:#}")), Err(format!("{error:#}"))),
                |(each, back)| (Ok(each), Ok(back)),
            ),
            Err(reason) => (Err(reason.clone()), Err(reason)),
        };
        held.push((kind, each));
        returned.push((kind, back));
    }
    Ok(lines(held, returned))
}

fn lines(held: Vec<(Kind, Figure)>, returned: Vec<(Kind, Figure)>) -> Vec<Line> {
    vec![
        Line {
            name: format!("idle connection, HTTP/2, after one call, of {COUNT}"),
            unit: "KiB",
            figures: held,
            bounds: vec![Bound {
                goal: Some(10.0),
                ..Bound::most(20.0)
            }],
        },
        Line {
            name: format!("idle connection: back {} s after the close", REST.as_secs()),
            unit: "%",
            figures: returned,
            bounds: vec![Bound {
                at_least: true,
                ..Bound::most(90.0)
            }],
        },
    ]
}

/// KiB of each connection, and the percentage that came back.
async fn measure(running: &Running) -> Result<(f64, f64)> {
    let call = greeting(100);
    // What is made once, for the first.
    Client::connect(running.address)
        .await?
        .call(METHOD, &call)
        .await?;
    let before = running.server.resident()? as f64;
    let open = |_| async {
        let mut client = Client::connect(running.address).await?;
        client.call(METHOD, &call).await?;
        anyhow::Ok(client)
    };
    let mut opening = stream::iter((0..COUNT).map(open)).buffer_unordered(16);
    let mut clients = Vec::with_capacity(COUNT);
    while let Some(client) = opening.next().await {
        clients.push(client?);
    }
    let full = running.server.resident()? as f64;
    drop(clients);
    tokio::time::sleep(REST).await;
    let after = running.server.resident()? as f64;
    let grown = full - before;
    Ok((grown / COUNT as f64 / KIB, (full - after) / grown * 100.0))
}
