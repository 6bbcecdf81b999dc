//! Whole-process tests: the real binary, real clients, ports chosen by the system.

mod commands;
mod crash;
mod golden;
mod lifecycle;
mod limits;
mod safety;
mod sidecar;
