//! Greetings.

use layotto_core::Result;
use layotto_proto::runtime::v1::{SayHelloRequest, SayHelloResponse};

use crate::{Runtime, ops::hello};

pub(super) async fn hello(runtime: &Runtime, request: SayHelloRequest) -> Result<SayHelloResponse> {
    let SayHelloRequest {
        service_name,
        name,
        data,
    } = request;
    let hello = hello::hello(runtime, &service_name, &name).await?;
    Ok(SayHelloResponse { hello, data })
}
