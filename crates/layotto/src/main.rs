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

/// What the program needs of the C mathematics library: `pow` for tokio's statistics, both for
/// balancers. Bringing them along spares every process that library: 0.6 MB of resident memory.
#[allow(
    unsafe_code,
    reason = "the name is what replaces the library's function; the body is safe"
)]
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}

/// See [`pow`].
#[allow(
    unsafe_code,
    reason = "the name is what replaces the library's function; the body is safe"
)]
#[unsafe(no_mangle)]
extern "C" fn exp(exponent: f64) -> f64 {
    libm::exp(exponent)
}
