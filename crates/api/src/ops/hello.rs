//! Greetings.

use layotto_core::Result;

use crate::runtime::{Runtime, component_error, look_up};

/// The greeting of hello component `service` for `name`.
pub async fn hello(runtime: &Runtime, service: &str, name: &str) -> Result<String> {
    let unknown = || "no instance found".to_owned();
    let slot = look_up(&runtime.components.hello, service, unknown, unknown)?;
    let greeting = async { slot.get()?.hello(name).await }.await;
    greeting.map_err(|error| component_error("hellos", service, error.message().to_owned(), error))
}
