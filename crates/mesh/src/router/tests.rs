mod actions;
mod matching;
mod refusals;

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::*;
use crate::{
    config::ConfigError,
    connection::{Info, Local, Remote},
    filter::Kind,
};

/// An exchange with a client at 10.0.0.7.
pub(super) fn exchange() -> Exchange {
    let client: SocketAddr = "10.0.0.7:4000".parse().unwrap();
    let local: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let info = Info::new(Remote::Tcp(client), Local::Tcp(local), "l");
    Exchange::begin("l".into(), Some(info))
}

pub(super) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut builder = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn get(target: &str) -> request::Parts {
    request("GET", target, &[("host", "a.com:80")])
}

/// A configuration with one virtual host for all.
pub(super) fn config(routers: Value) -> RouterConfig {
    let hosts = json!([{ "domains": ["*"], "routers": routers }]);
    serde_json::from_value(json!({ "virtual_hosts": hosts })).unwrap()
}

pub(super) fn table(routers: Value) -> Table {
    Table::new(&config(routers), &[]).unwrap()
}

fn refused(routers: Value) -> ConfigError {
    Table::new(&config(routers), &[]).unwrap_err()
}

/// A route that answers with `name`.
fn answer(name: &str, matches: Value) -> Value {
    json!({ "match": matches, "direct_response": { "status": 200, "body": name } })
}

/// The name of the route that takes the request.
pub(super) fn taken(table: &Table, head: &request::Parts) -> Option<String> {
    let route = table.find(head, &exchange())?;
    match &route.action {
        Action::Direct(direct) => Some(String::from_utf8(direct.body.to_vec()).unwrap()),
        _ => None,
    }
}

/// What is left of `head` by the only route of `table`.
fn edited(table: &Table, mut head: request::Parts) -> request::Parts {
    let exchange = exchange();
    let route = table.find(&head, &exchange).unwrap().clone();
    route.edit_request(&mut head, &exchange);
    head
}

fn forward(table: &Table) -> &Forward {
    match &table.find(&get("/"), &exchange()).unwrap().action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}
