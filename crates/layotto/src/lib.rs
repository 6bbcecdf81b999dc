//! The program: its configuration file, its commands, and the assembly of the process.

mod actuator;
mod admin;
mod answer;
pub mod assemble;
mod backoff;
mod banner;
pub mod cli;
mod components;
pub mod config;
mod data_dir;
mod facts;
mod functions;
pub mod logging;
mod managed;
mod memory;
mod metrics_page;
mod part;
mod plane;
mod pprof;
mod process_metrics;
mod reload;
mod schema;
mod secrets;
mod signals;
mod sofa_tracer;
mod zipkin;
