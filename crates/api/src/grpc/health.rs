//! The standard health service: says of every service what is true of the process.

use std::time::Duration;

use futures::FutureExt;
use layotto_core::health::{Health, Status};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, HealthService},
};

use super::methods::services;

/// How often the health of the process is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// A health service that knows every service, none of them serving yet.
pub(super) fn server() -> (
    HealthReporter,
    tonic_health::pb::health_server::HealthServer<HealthService>,
) {
    let reporter = HealthReporter::new();
    // Nobody else has the reporter yet, so that it never waits.
    report(&reporter, ServingStatus::NotServing).now_or_never();
    let service = HealthService::from_health_reporter(reporter.clone());
    (
        reporter,
        tonic_health::pb::health_server::HealthServer::new(service),
    )
}

/// Keeps `reporter` true to `health` until `shutdown`; then, while calls end, nothing is serving.
pub async fn follow(reporter: HealthReporter, health: Health, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut told = None;
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let status = match health.overall() {
            Status::Up => ServingStatus::Serving,
            Status::Init | Status::Down => ServingStatus::NotServing,
        };
        if told.replace(status) != Some(status) {
            report(&reporter, status).await;
        }
    }
    report(&reporter, ServingStatus::NotServing).await;
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    reporter.set_service_status("", status).await;
    for service in services() {
        reporter.set_service_status(service, status).await;
    }
}
