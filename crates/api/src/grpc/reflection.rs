//! Server reflection, both versions.

use std::{convert::Infallible, sync::LazyLock};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tonic_reflection::server::Builder;
use tower::Service;

use super::methods::services;

type Serve = dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> + Send + Sync;

/// The two reflection services. Their server types have no name, so they are kept as functions;
/// and most processes are never asked, so each reads the descriptors when it is.
pub(super) struct Reflection {
    pub(super) v1: Box<Serve>,
    pub(super) v1alpha: Box<Serve>,
}

const DECODES: &str = "invariant: the build wrote the descriptors";

impl Reflection {
    pub(super) fn new() -> Self {
        let v1 = LazyLock::new(|| builder().build_v1().expect(DECODES));
        let v1alpha = LazyLock::new(|| builder().build_v1alpha().expect(DECODES));
        Self {
            v1: Box::new(move |request| v1.clone().call(request)),
            v1alpha: Box::new(move |request| v1alpha.clone().call(request)),
        }
    }
}

/// Everything is described, and what this process serves is listed.
fn builder() -> Builder<'static> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(layotto_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        .include_reflection_service(false);
    services().into_iter().fold(builder, Builder::with_service_name)
}
