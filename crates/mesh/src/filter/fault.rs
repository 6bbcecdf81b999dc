//! `fault`: delays requests and fails them, to see how their callers take it.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, StatusCode};
use layotto_core::GoDuration;
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use super::{Context, Filter, Kind, Next, Request, Response, RouteConfig, answer};
use crate::{
    body::Body,
    config::ConfigError,
    exchange::{Exchange, Flags},
    reply,
    router::Action,
};

/// The filter, for [`super::KINDS`].
pub const KIND: Kind = Kind {
    name: NAME,
    build,
    route_config: Some(|config| Ok(Arc::new(Plan::read(config)?) as RouteConfig)),
    schema: || schemars::schema_for!(Config),
    other_keys: &[],
};

const NAME: &str = "fault";
const TEXT: &str = "fault injected";

/// Configuration of `fault`, of the listener or of a route. A route's replaces the listener's.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Delays requests.
    pub delay: DelayConfig,
    /// Fails requests, after their delay.
    pub abort: AbortConfig,
    /// Only requests whose route leads to this cluster are touched. Default "": all.
    pub upstream_cluster: String,
    /// Only requests that meet all of these conditions are touched. Default none.
    pub headers: Vec<HeaderConfig>,
}

/// Which requests are delayed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DelayConfig {
    /// How many of a hundred requests are delayed, 0 to 100; fractions are possible. Default 0.
    pub percentage: f64,
    /// How long. Default "0s".
    pub fixed_delay: GoDuration,
}

/// Which requests fail.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AbortConfig {
    /// The HTTP status they get, 200 to 599; gRPC callers get the gRPC status that a client would
    /// make of it. Required if `percentage` is not 0.
    pub status: u16,
    /// How many of a hundred requests fail, 0 to 100; fractions are possible. Default 0.
    pub percentage: f64,
}

/// A condition on a header.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderConfig {
    /// The name of the header. Required.
    pub name: String,
    /// The value it must have; "" (the default): any.
    pub value: String,
    /// Whether `value` is a regular expression, searched for anywhere in the header's value.
    /// Default false.
    pub regex: bool,
}

/// What is done to which requests.
#[derive(Debug)]
struct Plan {
    delay: Option<(f64, std::time::Duration)>,
    abort: Option<(f64, StatusCode)>,
    cluster: String,
    headers: Vec<(HeaderName, Expected)>,
}

#[derive(Debug)]
enum Expected {
    Any,
    Exactly(String),
    Like(Regex),
}

/// Chooses the requests: numbers from 0 to 100, 100 not included.
type Dice = Box<dyn Fn() -> f64 + Send + Sync>;

struct Fault {
    plan: Arc<Plan>,
    dice: Dice,
}

fn build(config: &Value, _: &Context) -> Result<Arc<dyn Filter>, ConfigError> {
    Ok(Arc::new(Fault {
        plan: Arc::new(Plan::read(config)?),
        dice: Box::new(|| fastrand::f64() * 100.0),
    }))
}

impl Fault {
    fn plan(&self, route: Option<RouteConfig>) -> Arc<Plan> {
        let route = route.and_then(|config| config.downcast().ok());
        route.unwrap_or_else(|| self.plan.clone())
    }

    fn hits(&self, percentage: f64) -> bool {
        (self.dice)() < percentage
    }
}

impl Filter for Fault {
    fn call<'a>(&'a self, mut request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        let exchange = Exchange::of(request.extensions()).cloned();
        let plan = self.plan(super::route_config(exchange.as_ref(), NAME));
        let concerned = plan.concerns(&mut request, exchange.as_ref());
        if !concerned {
            return next.run(request);
        }
        Box::pin(async move {
            if let Some((_, delay)) = plan.delay.filter(|(percentage, _)| self.hits(*percentage)) {
                flag(exchange.as_ref(), Flags::DELAY);
                sleep(delay).await;
            }
            match plan.abort.filter(|(percentage, _)| self.hits(*percentage)) {
                None => next.run(request).await,
                Some((_, status)) => {
                    flag(exchange.as_ref(), Flags::FAULT);
                    abort(&request, status)
                }
            }
        })
    }
}

fn flag(exchange: Option<&Exchange>, flags: Flags) {
    if let Some(exchange) = exchange {
        exchange.flag(flags);
    }
}

fn abort(request: &Request, status: StatusCode) -> Response {
    let kind = reply::Kind::of(request.headers());
    let mut response = answer::refuse(kind, status, answer::code_of(status), TEXT);
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        *response.body_mut() = Body::empty();
    }
    response
}

impl Plan {
    fn read(config: &Value) -> Result<Self, ConfigError> {
        let config: Config = super::read(config)?;
        let delay = percentage("delay", config.delay.percentage)?;
        let abort = percentage("abort", config.abort.percentage)?;
        let status = || {
            answer::status(config.abort.status).map_err(|message| ConfigError::new("abort.status", message))
        };
        let header = |(at, header): (usize, &HeaderConfig)| {
            header
                .read()
                .map_err(|error| error.under(&format!("headers[{at}]")))
        };
        Ok(Self {
            delay: delay
                .map(|percentage| (percentage, config.delay.fixed_delay.0))
                .filter(|(_, delay)| !delay.is_zero()),
            abort: abort.map(|percentage| Ok((percentage, status()?))).transpose()?,
            headers: config
                .headers
                .iter()
                .enumerate()
                .map(header)
                .collect::<Result<_, _>>()?,
            cluster: config.upstream_cluster,
        })
    }

    fn concerns(&self, request: &mut Request, exchange: Option<&Exchange>) -> bool {
        if self.delay.is_none() && self.abort.is_none() {
            return false;
        }
        let meets = |(name, expected): &(HeaderName, Expected)| expected.meets(request.headers(), name);
        if !self.headers.iter().all(meets) {
            return false;
        }
        if self.cluster.is_empty() {
            return true;
        }
        let (head, body) = std::mem::take(request).into_parts();
        let concerned = self.leads_there(&head, exchange);
        *request = Request::from_parts(head, body);
        concerned
    }

    fn leads_there(&self, head: &http::request::Parts, exchange: Option<&Exchange>) -> bool {
        let leads = |exchange: &Exchange| {
            let route = exchange.facts().route.clone()?;
            let Action::Forward(forward) = &route.action else {
                return None;
            };
            forward.cluster(head, exchange)
        };
        exchange
            .and_then(leads)
            .is_some_and(|cluster| *cluster == *self.cluster)
    }
}

impl HeaderConfig {
    fn read(&self) -> Result<(HeaderName, Expected), ConfigError> {
        let name = self.name.parse().map_err(|_| {
            ConfigError::new(
                "name",
                format!("found {:?}, expected the name of a header", self.name),
            )
        })?;
        let expected = match self.value.as_str() {
            "" => Expected::Any,
            text if self.regex => Expected::Like(
                Regex::new(text).map_err(|error| ConfigError::new("value", error.to_string()))?,
            ),
            text => Expected::Exactly(text.to_owned()),
        };
        Ok((name, expected))
    }
}

impl Expected {
    fn meets(&self, headers: &HeaderMap, name: &HeaderName) -> bool {
        headers.get_all(name).iter().any(|value| match self {
            Self::Any => true,
            Self::Exactly(text) => value == text.as_str(),
            Self::Like(regex) => value.to_str().is_ok_and(|text| regex.is_match(text)),
        })
    }
}

/// `None` if it is zero.
fn percentage(of: &str, number: f64) -> Result<Option<f64>, ConfigError> {
    match (0.0..=100.0).contains(&number) {
        true => Ok(Some(number).filter(|number| *number > 0.0)),
        false => Err(ConfigError::new(
            format!("{of}.percentage"),
            format!("found {number}, expected a number from 0 to 100"),
        )),
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fault").field(&self.plan).finish()
    }
}

#[cfg(test)]
mod tests;
