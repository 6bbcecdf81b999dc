//! Builds tables from their configuration.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

use serde_json::Value;

use super::{
    Action, Direct, Forward, Redirect, Route, Table,
    config::{Router, RouterConfig, VirtualHost},
    edits::{Edits, keys},
    matcher::Matcher,
    rule::{PathRule, Rule},
};
use crate::{
    config::ConfigError,
    filter::{Kind, RouteConfig},
};

type FilterConfigs = HashMap<Box<str>, RouteConfig>;

/// What a virtual host and the configuration give to each of its routes.
struct Shared {
    filters: FilterConfigs,
    edits: [Arc<Edits>; 2],
}

impl Table {
    /// Builds the routes of a configuration; a folder of virtual hosts is read now, from the disk.
    /// `filters` are the filters that routes may have something to say to. An error names the path
    /// of the value under `config`.
    pub fn new(config: &RouterConfig, filters: &[Kind]) -> Result<Self, ConfigError> {
        Self::new_in(config, filters, &[])
    }

    /// The same; a folder that the working directory does not have is looked up in `folders`.
    pub fn new_in(config: &RouterConfig, filters: &[Kind], folders: &[PathBuf]) -> Result<Self, ConfigError> {
        let edits = Arc::new(Edits::new(keys!(config))?);
        let mut table = Self::default();
        for (path, host) in config.hosts(folders)? {
            table
                .add(&host, filters, &edits)
                .map_err(|error| error.under(&path))?;
        }
        Ok(table)
    }

    fn add(&mut self, host: &VirtualHost, filters: &[Kind], edits: &Arc<Edits>) -> Result<(), ConfigError> {
        let index = self.hosts.len();
        for (i, domain) in host.domains.iter().enumerate() {
            let add = self.domains.add(domain, index);
            add.map_err(|message| ConfigError::new(format!("domains[{i}]"), message))?;
        }
        let shared = Shared {
            filters: read_filters(&host.per_filter_config, filters)?,
            edits: [Arc::new(Edits::new(keys!(host))?), edits.clone()],
        };
        let routes = host.routers.iter().enumerate().map(|(i, router)| {
            shared
                .route(router, filters)
                .map_err(|error| error.under(&format!("routers[{i}]")))
        });
        self.hosts.push(Matcher::new(routes.collect::<Result<_, _>>()?)?);
        Ok(())
    }
}

impl Shared {
    fn route(&self, router: &Router, kinds: &[Kind]) -> Result<(PathRule, Rule, Arc<Route>), ConfigError> {
        let path = PathRule::new(&router.matches).map_err(|error| error.under("match"))?;
        let rule = Rule::new(&router.matches, &path).map_err(|error| error.under("match"))?;
        let mut filters = self.filters.clone();
        filters.extend(read_filters(&router.per_filter_config, kinds)?);
        let mut edits = self.edits.to_vec();
        if let Some(action) = &router.route {
            let own = Edits::new(keys!(action)).map_err(|error| error.under("route"))?;
            edits.insert(0, Arc::new(own));
        }
        let route = Route {
            action: action(router, &path)?,
            filters,
            edits,
        };
        Ok((path, rule, Arc::new(route)))
    }
}

fn action(router: &Router, path: &PathRule) -> Result<Action, ConfigError> {
    match router {
        Router {
            direct_response: Some(direct),
            ..
        } => {
            let direct = Direct::new(direct).map_err(|error| error.under("direct_response"))?;
            Ok(Action::Direct(direct))
        }
        Router {
            redirect: Some(redirect),
            ..
        } => {
            let redirect = Redirect::new(redirect).map_err(|error| error.under("redirect"))?;
            Ok(Action::Redirect(redirect))
        }
        Router {
            route: Some(forward), ..
        } => {
            let forward = Forward::new(forward, path).map_err(|error| error.under("route"))?;
            Ok(Action::Forward(forward))
        }
        _ => Err(ConfigError::new(
            "route",
            "is missing; accepted: route, redirect or direct_response",
        )),
    }
}

fn read_filters(configs: &BTreeMap<String, Value>, kinds: &[Kind]) -> Result<FilterConfigs, ConfigError> {
    let read = |(name, value): (&String, &Value)| {
        let read = reader(name, kinds).and_then(|read| read(value));
        let under = |error: ConfigError| error.under(&format!("per_filter_config.{name}"));
        read.map(|config| (name.as_str().into(), config)).map_err(under)
    };
    configs.iter().map(read).collect()
}

fn reader(name: &str, kinds: &[Kind]) -> Result<crate::filter::ReadRouteConfig, ConfigError> {
    let found = kinds.iter().find(|kind| kind.name == name);
    if let Some(read) = found.and_then(|kind| kind.route_config) {
        return Ok(read);
    }
    let accepted = kinds
        .iter()
        .filter(|kind| kind.route_config.is_some())
        .map(|kind| kind.name);
    let accepted = accepted.collect::<Vec<_>>().join(", ");
    let what = match found {
        Some(_) => "takes no configuration of routes",
        None => "is no filter",
    };
    Err(ConfigError::new(
        "",
        format!("{name:?} {what}; accepted: {accepted}"),
    ))
}

/// Reads `text`, which stands at `path` and should be `what`.
pub(super) fn from_text<T: FromStr<Err: Display>>(
    text: &str,
    path: &str,
    what: &str,
) -> Result<T, ConfigError> {
    text.parse()
        .map_err(|error| ConfigError::new(path, format!("{text:?} is not {what}: {error}")))
}
