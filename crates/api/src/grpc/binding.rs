//! Output bindings.

use layotto_core::{
    Result,
    binding::{Request, Response},
};
use layotto_proto::runtime::v1::{InvokeBindingRequest, InvokeBindingResponse};

use crate::{Runtime, ops::binding};

pub(super) async fn invoke(
    runtime: &Runtime,
    request: InvokeBindingRequest,
) -> Result<InvokeBindingResponse> {
    let InvokeBindingRequest {
        name,
        data,
        metadata,
        operation,
    } = request;
    let Response { data, metadata } = binding::invoke(
        runtime,
        &name,
        Request {
            operation,
            data,
            metadata,
        },
    )
    .await?;
    Ok(InvokeBindingResponse { data, metadata })
}
