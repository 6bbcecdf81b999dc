//! `flowControlFilter`: limits how many calls pass, by Sentinel's flow rules. A call counts once,
//! when it begins, however long its streams go on. Each filter has counts of its own.

mod config;
mod memory;
mod rule;
mod rules;
mod throttle;
mod warm_up;
mod window;

use std::{borrow::Cow, fmt, sync::Arc};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use self::{
    config::{Config, KeyType, OTHER_KEYS},
    memory::Memory,
    rules::{Resource, Rules},
};
use super::{Context, Filter, Kind, Next, Request, Response, Tunable, answer};
use crate::{
    config::ConfigError,
    exchange::{Exchange, Flags},
    reply::{self, Code},
};

/// The filter, for [`super::KINDS`].
pub const KIND: Kind = Kind {
    name: NAME,
    build,
    route_config: None,
    schema: || schemars::schema_for!(Config),
    other_keys: OTHER_KEYS,
};

const NAME: &str = "flowControlFilter";

/// The filter: a set of rules that can be replaced as a whole.
struct FlowControl {
    set: ArcSwap<Set>,
    surroundings: Arc<Surroundings>,
}

/// What rules measure by; it outlives their replacement.
struct Surroundings {
    clock: window::Clock,
    memory: Memory,
}

/// One configuration and what was made of it.
struct Set {
    config: Config,
    key: KeyType,
    status: StatusCode,
    rules: Rules,
}

fn build(config: &Value, _: &Context) -> Result<Arc<dyn Filter>, ConfigError> {
    let filter = FlowControl::new(super::read(config)?, Memory::of_this_process())?;
    Ok(Arc::new(filter))
}

impl FlowControl {
    fn new(config: Config, memory: Memory) -> Result<Self, ConfigError> {
        let clock = window::Clock::start();
        Ok(Self {
            set: ArcSwap::from_pointee(Set::new(config, &Rules::default())?),
            surroundings: Arc::new(Surroundings { clock, memory }),
        })
    }

    /// The resource that a request asks for, if a rule names it.
    fn limited(&self, request: &Request) -> Option<(Arc<Set>, Arc<Resource>)> {
        let set = self.set.load();
        if !set.config.global_switch || set.rules.is_empty() {
            return None;
        }
        let resource = set.rules.find(&set.name_of(request))?.clone();
        Some((Arc::clone(&set), resource))
    }
}

impl Filter for FlowControl {
    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        let Some((set, resource)) = self.limited(&request) else {
            return next.run(request);
        };
        if !resource.throttles() {
            return match resource.admit_now(&self.surroundings) {
                true => next.run(request),
                false => Box::pin(std::future::ready(set.refuse(&request))),
            };
        }
        Box::pin(async move {
            match resource.admit(&self.surroundings).await {
                true => next.run(request).await,
                false => set.refuse(&request),
            }
        })
    }

    fn tunable(&self) -> Option<&dyn Tunable> {
        Some(self)
    }
}

impl Tunable for FlowControl {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn show(&self) -> Value {
        let set = self.set.load();
        json!({
            "config": set.config,
            "resources": set.rules.show(&self.surroundings.clock),
        })
    }

    fn tune(&self, config: Value) -> Result<(), String> {
        let config = config::strictly(&config).map_err(|error| error.to_string())?;
        // Whoever tunes at the same time must not bring back what the other replaced.
        loop {
            let old = self.set.load_full();
            let new = Set::new(config.clone(), &old.rules).map_err(|error| error.to_string())?;
            let seen = self.set.compare_and_swap(&old, Arc::new(new));
            if Arc::ptr_eq(&seen, &old) {
                return Ok(());
            }
        }
    }
}

impl Set {
    fn new(config: Config, old: &Rules) -> Result<Self, ConfigError> {
        Ok(Self {
            key: config.key_type()?,
            status: answer::status(config.action.status)
                .map_err(|message| ConfigError::new("action.status", message))?,
            rules: Rules::new(&config.rules, old)?,
            config,
        })
    }

    /// The name of the resource that a request asks for.
    fn name_of<'r>(&self, request: &'r Request) -> Cow<'r, str> {
        let uri = request.uri();
        match (reply::Kind::of(request.headers()), self.key) {
            (reply::Kind::Grpc, _) => uri.path().into(),
            (reply::Kind::Http, KeyType::Path) => decoded(uri.path()),
            (reply::Kind::Http, KeyType::Arg) => uri.query().unwrap_or_default().into(),
            (reply::Kind::Http, KeyType::Uri) => path_and_query(uri).into(),
        }
    }

    fn refuse(&self, request: &Request) -> Response {
        if let Some(exchange) = Exchange::of(request.extensions()) {
            exchange.flag(Flags::RATE_LIMITED);
        }
        let kind = reply::Kind::of(request.headers());
        answer::refuse(
            kind,
            self.status,
            Code::ResourceExhausted,
            &self.config.action.body,
        )
    }
}

/// The path as routes see it, so that `/%61` is no way around a rule for `/a`.
fn decoded(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8_lossy()
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

impl fmt::Debug for FlowControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FlowControl")
            .field(&self.set.load().config)
            .finish()
    }
}

#[cfg(test)]
mod tests;
