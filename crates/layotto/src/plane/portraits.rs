//! Portraits: what the traffic dump keeps of calls of the runtime, beside their bytes.

use std::sync::Arc;

use futures::future::BoxFuture;
use layotto_mesh::{
    filter::{Filter, Next, Request, Response},
    tap::tcpcopy::{Business, Tcpcopy},
};
use serde_json::json;

/// Methods of the runtime, and the part of it that they belong to.
const RUNTIME: &str = "/spec.proto.runtime.v1.Runtime/";

/// Hands the first call of each part of the runtime in each window to the traffic dump.
pub struct Portraits(pub Arc<Tcpcopy>);

impl Filter for Portraits {
    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        let path = request.uri().path();
        if let Some(business) = path.strip_prefix(RUNTIME).and_then(business) {
            self.0.portrait(business, || portrait(&request));
        }
        next.run(request)
    }
}

fn business(method: &str) -> Option<Business> {
    Some(match method {
        "InvokeService" => Business::Rpc,
        "GetConfiguration" | "SaveConfiguration" | "DeleteConfiguration" | "SubscribeConfiguration" => {
            Business::Configuration
        }
        "GetState"
        | "GetBulkState"
        | "SaveState"
        | "DeleteState"
        | "DeleteBulkState"
        | "ExecuteStateTransaction" => Business::State,
        _ => return None,
    })
}

/// The call without its values, which may be secrets.
fn portrait(request: &Request) -> String {
    let metadata: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
    json!({"method": request.uri().path(), "metadata": metadata}).to_string()
}

#[cfg(test)]
mod tests {
    use layotto_mesh::body::Body;

    use super::*;

    #[test]
    fn a_portrait_names_method_and_metadata_and_no_value() {
        let request = http::Request::post("/spec.proto.runtime.v1.Runtime/GetState")
            .header("x-key", "s3cret")
            .body(Body::empty())
            .unwrap();
        assert_eq!(
            portrait(&request),
            r#"{"method":"/spec.proto.runtime.v1.Runtime/GetState","metadata":["x-key"]}"#
        );
    }

    #[test]
    fn calls_belong_to_their_part_of_the_runtime() {
        assert_eq!(business("InvokeService"), Some(Business::Rpc));
        assert_eq!(business("SaveConfiguration"), Some(Business::Configuration));
        assert_eq!(business("DeleteState"), Some(Business::State));
        assert_eq!(business("SayHello"), None);
    }
}
