//! The stream filter `wasm_filter`: functions are installed, changed and removed over HTTP, under
//! upstream's paths and with its answers, and shown.

use futures::future::BoxFuture;
use http::{Method, StatusCode};
use layotto_mesh::{
    filter::{self, Filter, Next, Phase, Request},
    stack::admin::Access,
};
use layotto_wasm::InstallError;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Guests, manage::Refused};
use crate::answer::{Answer, body, empty, error, json, method_not_allowed, under};

/// The largest body read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The filter.
#[derive(Clone)]
pub struct WasmAdmin {
    guests: Guests,
    access: Access,
}

/// Why nothing was changed.
#[derive(Debug, Error)]
enum Unchanged {
    #[error("invalid request body")]
    NoBody,
    #[error("invalid request body: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("can't get {0} property")]
    Absent(&'static str),
    #[error("{key}: found {found}, expected {expected}")]
    Wrong {
        key: &'static str,
        found: Value,
        expected: &'static str,
    },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl WasmAdmin {
    /// Changes `guests` for those whom `access` lets in.
    pub fn new(guests: Guests, access: Access) -> Self {
        Self { guests, access }
    }

    async fn answer(self, request: Request) -> Answer {
        let path = request.uri().path().to_owned();
        match path.split('/').nth(2).unwrap_or_default() {
            "status" if request.method() == Method::GET => json(StatusCode::OK, &self.guests.status()),
            "status" => method_not_allowed(&Method::GET),
            endpoint @ ("install" | "update" | "uninstall") => self.change(endpoint, request).await,
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    async fn change(&self, endpoint: &str, request: Request) -> Answer {
        let body = match body(request, MAX_BODY_BYTES).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        match self.changed(endpoint, &body).await {
            Ok(function) => {
                tracing::info!(function, "{endpoint} asked for over the administration API");
                empty(StatusCode::OK)
            }
            Err(why) => {
                // With its causes.
                let why = format!("{:#}", anyhow::Error::from(why));
                tracing::warn!("{endpoint} asked for over the administration API: {why}");
                error(StatusCode::INTERNAL_SERVER_ERROR, &why)
            }
        }
    }

    async fn changed(&self, endpoint: &str, body: &[u8]) -> Result<String, Unchanged> {
        if body.is_empty() {
            return Err(Unchanged::NoBody);
        }
        let body: Map<String, Value> = serde_json::from_slice(body)?;
        let id = name(&body)?;
        match endpoint {
            "install" => self.guests.install(&id, body).await?,
            "update" => self.guests.update(&id, number(&body)?)?,
            _ => self.guests.uninstall(&id).await?,
        }
        Ok(id)
    }
}

fn name(body: &Map<String, Value>) -> Result<String, Unchanged> {
    match body.get("name") {
        None => Err(Unchanged::Absent("name")),
        Some(Value::String(name)) if !name.is_empty() => Ok(name.clone()),
        Some(other) => Err(Unchanged::Wrong {
            key: "name",
            found: other.clone(),
            expected: "the id of a function",
        }),
    }
}

fn number(body: &Map<String, Value>) -> Result<i64, Unchanged> {
    let found = body
        .get("instance_num")
        .ok_or(Unchanged::Absent("instance_num"))?;
    found.as_i64().ok_or_else(|| Unchanged::Wrong {
        key: "instance_num",
        found: found.clone(),
        expected: "a whole number",
    })
}

/// Answers what is under `/wasm/`, and lets all else pass.
impl Filter for WasmAdmin {
    fn phase(&self) -> Phase {
        Phase::BeforeRoute
    }

    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, filter::Response> {
        under("/wasm", &self.access, request, next, |request| {
            self.clone().answer(request)
        })
    }
}
