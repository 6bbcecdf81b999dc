//! `layotto`: application runtime and service-mesh data plane in one process.

use std::process::ExitCode;

use layotto::{assemble, cli};
use layotto_core::Registry;

fn main() -> ExitCode {
    cli::main(&registry(), |loaded, options| {
        assemble::run(&loaded, &options, registry())
    })
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    registry
}
