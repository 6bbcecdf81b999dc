//! Whole-process tests: the real binary, real clients, ports chosen by the system.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod components;
mod crash;
mod deviations;
mod doc_pages;
mod faults;
mod golden;
mod guests;
mod idle;
mod lifecycle;
mod limits;
mod mesh;
mod raw;
mod safety;
mod sidecar;
