//! What the process serves beside the data plane: metrics, the administration API and profiles.

use std::{convert::Infallible, sync::Arc};

use http::Request;
use hyper::body::Incoming;
use layotto_api::metrics::Metrics;
use layotto_mesh::{
    Address, Listener,
    body::Body,
    drain,
    stack::{self, admin::Access, catch_panic},
};

use crate::{admin::Admin, answer::Answer, config::Config, metrics_page::MetricsPage, pprof};

/// Their sockets, which do not accept yet.
pub struct Side {
    metrics: Vec<(Listener, String)>,
    admin: Option<Listener>,
    pprof: Option<Listener>,
}

impl Side {
    /// Binds their sockets.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let mut metrics = Vec::new();
        for sink in &config.metrics {
            let address = Address::Tcp {
                host: sink.address.clone(),
                port: sink.port,
            };
            let settings = layotto_mesh::listener::Config::new("metrics", address);
            metrics.push((Listener::bind(&settings).await?, sink.endpoint.clone()));
        }
        Ok(Self {
            metrics,
            admin: bind("admin", config.admin.address.as_ref()).await?,
            pprof: bind("pprof", config.pprof.as_ref()).await?,
        })
    }

    /// Serves them until `watch` sees the end.
    pub fn serve(self, admin: Admin, access: Access, metrics: &Arc<Metrics>, watch: &drain::Watch) {
        for (listener, page) in self.metrics {
            let page = MetricsPage::new(page, Arc::clone(metrics));
            tokio::spawn(listener.serve(page, watch.clone()));
        }
        if let Some(listener) = self.admin {
            let answer = move |request: Request<Incoming>| {
                let admin = admin.clone();
                async move { admin.answer(request.map(Body::from)).await }
            };
            serve(listener, answer, access.clone(), watch);
        }
        if let Some(listener) = self.pprof {
            serve(listener, pprof::answer, access, watch);
        }
    }
}

async fn bind(name: &str, address: Option<&Address>) -> anyhow::Result<Option<Listener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let settings = layotto_mesh::listener::Config::new(name, address.clone());
    Ok(Some(Listener::bind(&settings).await?))
}

/// Serves what only administrators may ask for.
fn serve<F>(
    listener: Listener,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    access: Access,
    watch: &drain::Watch,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let service = tower::service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let service = stack::over(service)
        .push(access.layer())
        .push(catch_panic::layer());
    tokio::spawn(listener.serve(service.into_service(), watch.clone()));
}

/// The rule for administration surfaces: clients of this machine, or with the token.
pub fn access(config: &Config) -> Access {
    let token = config.admin.token.as_ref().map(|token| token.expose().as_str());
    let listeners = config.server.listeners.iter();
    let surfaces = listeners.filter(|listener| listener.needs_no_route());
    let addresses = surfaces.map(|listener| &listener.address);
    Access::new(token).at(addresses.chain(&config.admin.address).chain(&config.pprof))
}

/// Others than this machine can reach an administration surface, and nothing asks who they are.
pub fn warn_of_open_doors(config: &Config) {
    if config.admin.token.is_some() {
        return;
    }
    let actuators = config
        .server
        .listeners
        .iter()
        .filter(|listener| listener.opens() && listener.shows_health());
    for listener in actuators.filter(|listener| !listener.address.is_local()) {
        tracing::warn!(
            listener = listener.name,
            address = %listener.address,
            "others can reach the actuator; without an admin token they may read it but change nothing"
        );
    }
    let functions = config.server.listeners.iter();
    let functions = functions.filter(|listener| listener.opens() && listener.administers_functions());
    let functions = functions.map(|listener| ("the administration of functions", Some(&listener.address)));
    let others = [
        ("the administration API", config.admin.address.as_ref()),
        ("profiles", config.pprof.as_ref()),
    ];
    for (name, address) in others.into_iter().chain(functions) {
        if let Some(address) = address.filter(|address| !address.is_local()) {
            tracing::warn!(%address, "others can reach {name}; without an admin token they are refused");
        }
    }
}
