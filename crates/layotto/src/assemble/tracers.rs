//! Who is told of calls.

use std::{io, sync::Arc};

use layotto_api::grpc::Tracer;
use layotto_mesh::{access_log::Files, trace};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config,
    sofa_tracer::SofaTracer,
    zipkin::{self, ZipkinTracer},
};

/// Who is told of calls: those of runtimes, and those that are proxied.
pub enum Tracers {
    /// Prints them by way of these files.
    Sofa(Files),
    /// Sends them to a Zipkin server.
    Zipkin(ZipkinTracer),
}

impl Tracers {
    /// Starts the driver; those that print do so by way of `files`.
    pub fn start(
        tracing: &config::Tracing,
        files: &Files,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        Ok(match &tracing.driver {
            config::TracingDriver::SofaTracer => Self::Sofa(files.clone()),
            config::TracingDriver::Zipkin(config) => {
                let (tracer, reporter) = zipkin::new(config)?;
                tasks.spawn(reporter.run(shutdown.clone()));
                Self::Zipkin(tracer)
            }
        })
    }

    /// Of the calls of an application's runtime.
    pub fn of_runtime(&self, app_id: &str) -> io::Result<Arc<dyn Tracer>> {
        Ok(match self {
            Self::Sofa(files) => Arc::new(SofaTracer::new(app_id, files)?),
            Self::Zipkin(tracer) => Arc::new(tracer.clone()),
        })
    }

    /// Of proxied calls, in the name of an application.
    pub fn of_proxies(&self, app_id: &str) -> io::Result<Arc<dyn trace::Tracer>> {
        Ok(match self {
            Self::Sofa(files) => Arc::new(SofaTracer::new(app_id, files)?),
            Self::Zipkin(tracer) => Arc::new(tracer.clone()),
        })
    }
}
