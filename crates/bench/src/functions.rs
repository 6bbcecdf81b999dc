//! Functions in WebAssembly: what they cost beside a route of the same process that answers itself.
//!
//! The sidecar is on the first processor, the load on the second.

mod cost;
mod floor;
mod install;
mod memory;
mod modules;
mod neighbours;
mod overtime;
mod sidecar;
pub mod table;

use anyhow::Result;

use self::{modules::Pair, table::Line};
use crate::cases::Options;

/// Runs every case that `options` wants.
pub async fn run(options: &Options) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    if options.wants("install") {
        eprintln!("functions: install …");
        lines.push(install::to_first_answer(options, &modules::alone(), Some(1.0)).await?);
    }
    if options.wants("instance") {
        eprintln!("functions: instances …");
        lines.extend(cost::instances(options).await?);
    }
    if options.wants("chain") {
        eprintln!("functions: chain …");
        lines.extend(cost::chain(options, &modules::rust_pair(), Some(60.0)).await?);
    }
    if options.wants("memory") {
        eprintln!("functions: memory …");
        lines.extend(memory::idle(options).await?);
    }
    if options.wants("neighbours") {
        eprintln!("functions: neighbours …");
        lines.push(neighbours::others(options).await?);
    }
    if options.wants("overtime") {
        eprintln!("functions: overtime …");
        lines.extend(overtime::later(options).await?);
    }
    if options.wants("Go") {
        eprintln!("functions: Go …");
        lines.extend(go(options).await);
    }
    if options.wants("floor") {
        eprintln!("functions: floor …");
        lines.push(floor::instantiate(options).await?);
    }
    Ok(lines)
}

/// The same of guests that bring the runtime of Go along; nothing is asked of them.
async fn go(options: &Options) -> Vec<Line> {
    let measured = match modules::go_pair() {
        Ok(pair) => go_of(options, &pair).await.map_err(|error| format!("{error:#}")),
        Err(reason) => Err(reason),
    };
    measured.unwrap_or_else(|reason| vec![Line::not_run("Go", reason)])
}

async fn go_of(options: &Options, pair: &Pair) -> Result<Vec<Line>> {
    let mut lines = vec![install::to_first_answer(options, &pair.second(), None).await?];
    lines.extend(cost::chain(options, pair, None).await?);
    Ok(lines)
}
