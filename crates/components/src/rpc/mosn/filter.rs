//! Steps that change a request before it is sent.

use layotto_core::rpc::Request;

const JSON: &str = "application/json";

/// A step before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// Makes the request a call of Dubbo's JSON-RPC over HTTP: the service is the path, service
    /// and method are told in header fields.
    DubboJsonRpc,
}

impl Filter {
    /// The step called `name` in a configuration.
    pub(super) fn named(name: &str) -> Option<Self> {
        (name == "dubbo_json_rpc").then_some(Self::DubboJsonRpc)
    }

    /// Changes `request`.
    pub(super) fn apply(self, request: &mut Request) {
        match self {
            Self::DubboJsonRpc => {
                set(request, "x-services", request.id.clone());
                set(request, "x-method", request.method.clone());
                set(request, "accept", JSON.to_owned());
                JSON.clone_into(&mut request.content_type);
                request.method.clone_from(&request.id);
            }
        }
    }
}

fn set(request: &mut Request, name: &str, value: String) {
    request.headers.retain(|(present, _)| present != name);
    request.headers.push((name.to_owned(), value));
}
