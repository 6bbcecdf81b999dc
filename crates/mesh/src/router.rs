//! Routes: from the head of a request to what becomes of it.
//!
//! A [`Table`] has virtual hosts, and a virtual host has routes, of which the first that takes a
//! request wins. How long that takes does not depend on how many there are. Paths are compared in
//! one form only, in which `//`, `..` and percent-encoding make no difference.

mod answer;
mod build;
mod clusters;
pub mod config;
mod domains;
mod edits;
mod forward;
mod hash;
mod host;
mod matcher;
mod path;
mod rewrite;
mod rule;

use std::{collections::HashMap, sync::Arc};

use http::{request, response};

pub(crate) use self::host::host;
pub use self::{
    answer::{Direct, Redirect},
    config::RouterConfig,
    forward::{Forward, RetryPolicy},
};
use self::{build::from_text, domains::Domains, edits::Edits, matcher::Matcher, path::Path, rule::Subject};
use crate::{exchange::Exchange, filter::RouteConfig};

/// The routes of one `router_config_name`. The default has none.
#[derive(Debug, Default)]
pub struct Table {
    domains: Domains,
    hosts: Vec<Matcher>,
}

/// What becomes of the requests that match.
#[derive(Debug)]
pub struct Route {
    /// What is done.
    pub action: Action,
    filters: HashMap<Box<str>, RouteConfig>,
    /// Of the route, of its virtual host, of the configuration.
    edits: Vec<Arc<Edits>>,
}

/// What is done with a request.
#[derive(Debug)]
pub enum Action {
    /// It is sent to a cluster.
    Forward(Forward),
    /// The client is told to look elsewhere.
    Redirect(Redirect),
    /// It is answered on the spot.
    Direct(Direct),
}

impl Table {
    /// The first route that matches; `None`: there is none.
    pub fn find(&self, head: &request::Parts, exchange: &Exchange) -> Option<&Arc<Route>> {
        let host = self.domains.find(host(head))?;
        let subject = Subject {
            head,
            exchange,
            path: Path::of(head.uri.path()),
        };
        self.hosts.get(host)?.find(&subject)
    }

    /// The clusters that routes name, some of them often; those that variables name are not known.
    pub fn cluster_names(&self) -> impl Iterator<Item = &str> {
        let routes = self.hosts.iter().flat_map(Matcher::routes);
        routes
            .flat_map(|route| match &route.action {
                Action::Forward(forward) => forward.cluster_names(),
                Action::Redirect(_) | Action::Direct(_) => Vec::new(),
            })
            .map(|name| &**name)
    }
}

/// A route without edits that says nothing to filters.
impl From<Action> for Route {
    fn from(action: Action) -> Self {
        Self {
            action,
            filters: HashMap::new(),
            edits: Vec::new(),
        }
    }
}

impl Route {
    /// What the route, or else its virtual host, says to the filter called `name`.
    pub fn filter_config(&self, name: &str) -> Option<&RouteConfig> {
        self.filters.get(name)
    }

    /// Edits headers, path and host before a request leaves. To be called once per exchange.
    pub fn edit_request(&self, head: &mut request::Parts, exchange: &Exchange) {
        for edits in &self.edits {
            edits.request(head, exchange);
        }
        if let Action::Forward(forward) = &self.action {
            forward.rewrite.apply(head);
        }
    }

    /// Edits headers before a reply goes back.
    pub fn edit_response(&self, head: &mut response::Parts, exchange: &Exchange) {
        for edits in &self.edits {
            edits.response(head, exchange);
        }
    }
}

#[cfg(test)]
mod tests;
