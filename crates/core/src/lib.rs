//! What a component is: one trait per building block, one registry, typed settings, errors.
//!
//! Knows no network, no gRPC and no configuration file. Back ends live in `layotto-components`,
//! the runtime API that calls them in `layotto-api`.

pub mod binding;
pub mod component;
pub mod configuration;
pub mod custom;
pub mod duration;
pub mod error;
pub mod file;
pub mod health;
pub mod hello;
pub mod key_prefix;
pub mod lock;
pub mod pubsub;
pub mod registry;
pub mod rpc;
pub mod secret;
pub mod sequencer;
pub mod settings;
pub mod shared;
pub mod state;

pub use component::{Component, Context, Open, Refs};
pub use duration::GoDuration;
pub use error::{Error, ErrorKind, Result};
pub use registry::{Kind, Registry, TypeInfo};
pub use secret::Secret;
pub use settings::Settings;

/// String metadata of a request or reply, as the wire has it.
pub type Metadata = std::collections::HashMap<String, String>;
