//! The HTTP proxy.

use std::sync::Arc;

use crate::{
    cluster::Clusters,
    drain,
    filter::{Request, Response},
    router::Route,
};

/// The HTTP proxy.
#[derive(Debug)]
pub struct Http;

/// Settings.
#[derive(Debug, Default)]
pub struct Settings {}

impl Http {
    /// A proxy.
    pub fn new(_: Settings, _: drain::Watch) -> Self {
        Self
    }

    /// Answers a request by its route.
    pub async fn handle(
        &self,
        _request: Request,
        _route: Option<&Arc<Route>>,
        _clusters: &Clusters,
    ) -> Response {
        Response::default()
    }
}
