//! What tests and benchmarks of the data plane need around it: other proxies to compare with, back
//! ends, load, and clients that break the rules.
//!
//! The proxy under test is a parameter ([`proxy::Kind`]): what a test asks of layotto can be asked
//! of Envoy, HAProxy and nginx too, which shows that the test itself is right.

pub mod attack;
pub mod load;
pub mod origin;
pub mod proxy;
pub mod wire;

pub use layotto_testkit::{process, programs};
