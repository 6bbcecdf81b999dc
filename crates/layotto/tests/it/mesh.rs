//! The data plane as a whole process: its listeners, routes, clusters and filters, and how they
//! change while it runs.

mod clients;
mod clusters;
mod filters;
mod operations;
mod pass_through;
mod peer;
mod plan;
mod quickstarts;
mod reload;
mod routes;
mod tls;
