//! The data plane: listeners, stacks of layers over one terminal service, drain.
//!
//! A [`Listener`] accepts connections and hands their requests to a `tower` service. That service
//! is a [`stack`]: one terminal (the gRPC API, the actuator, a proxy) under a few layers. A
//! [`drain`] ends listeners and connections without losing a request. Knows no component.
//!
//! ```no_run
//! # use std::{convert::Infallible, time::Duration};
//! # use layotto_mesh::{Address, Listener, drain, listener::Config, stack};
//! # async fn hello(_: stack::Request) -> Result<http::Response<String>, Infallible> {
//! #     Ok(http::Response::new("hello".into()))
//! # }
//! # async fn run(until: impl Future) -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("grpc", "127.0.0.1:34904".parse::<Address>()?);
//! let listener = Listener::bind(&config).await?;
//! let stack = stack::over(tower::service_fn(hello))
//!     .push(stack::deadline::layer())
//!     .push(stack::catch_panic::layer());
//! let (signal, watch) = drain::channel();
//! tokio::spawn(listener.serve(stack.into_service(), watch.clone()));
//! until.await;
//! let clean = signal.drain_within(Duration::from_secs(30)).await;
//! # drop(clean); Ok(()) }
//! ```

pub mod access_log;
pub mod address;
mod batched;
pub mod body;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod drain;
pub mod exchange;
pub mod filter;
pub mod front;
pub mod listener;
mod memory;
pub mod metrics;
pub mod observe;
pub mod paths;
pub mod proxy;
pub mod reply;
pub mod router;
pub mod stack;
pub mod tap;
pub mod tls;
pub mod trace;
pub mod upstream;
pub mod variable;

pub use address::Address;
pub use body::Body;
pub use config::ConfigError;
pub use listener::{BindError, Listener};

/// Any error, as bodies carry it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
