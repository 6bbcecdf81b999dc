//! The data plane as a whole process: its listeners, routes, clusters and filters, and how they
//! change while it runs.

pub mod clients;
mod clusters;
mod filters;
mod functions;
mod grpc_calls;
mod guest_metrics;
mod guests;
mod host;
mod http_calls;
mod operations;
mod pass_through;
mod peer;
mod plan;
mod proxywasm;
mod quickstarts;
mod reload;
mod routes;
mod tls;
