//! Calls to other services.

use layotto_core::{
    Error, ErrorKind, Result,
    rpc::{Request, Response},
};

use crate::{
    runtime::{Runtime, component_error},
    status::REASON,
};

/// The one RPC component that is ever called: upstream fixes its name.
const INVOKER: &str = "mosn";

/// Calls another service.
pub async fn invoke(runtime: &Runtime, request: Request) -> Result<Response> {
    let slot = runtime.components.rpc.get(INVOKER).ok_or_else(|| {
        Error::new(ErrorKind::FailedPrecondition, "invoker not init").with_detail(REASON, "NOT_CONFIGURED")
    })?;
    let answer = async { slot.get()?.invoke(request).await }.await;
    answer.map_err(|error| component_error("rpcs", INVOKER, error.message().to_owned(), error))
}
