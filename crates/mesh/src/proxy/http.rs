//! The HTTP proxy.

use crate::{
    cluster::Clusters,
    filter::{Request, Response},
};

/// The HTTP proxy.
#[derive(Debug, Default)]
pub struct Http;

impl Http {
    /// Answers a request by its route, which its exchange names.
    pub async fn handle(&self, _request: Request, _clusters: &Clusters) -> Response {
        Response::default()
    }
}
