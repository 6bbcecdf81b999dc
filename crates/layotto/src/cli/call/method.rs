//! Finds the method that a name means.

use anyhow::Context;
use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, MethodDescriptor};

/// The service whose method is meant where a short name fits several.
const PREFERRED: &str = "spec.proto.runtime.v1.Runtime";

/// The method called `name`: `GetState`, `Runtime/GetState`, `package.Service/GetState`; with dots
/// instead of slashes too. Only methods that take one message.
pub(super) fn find(pool: &DescriptorPool, name: &str) -> Result<MethodDescriptor, String> {
    let wanted = name.trim_start_matches('/').replace('/', ".");
    let suffix = format!(".{wanted}");
    let fits =
        |method: &MethodDescriptor| method.full_name() == wanted || method.full_name().ends_with(&suffix);
    let found: Vec<_> = methods(pool).filter(fits).collect();
    let method = match found.as_slice() {
        [] => return Err(unknown(pool, name)),
        [one] => one,
        many => many
            .iter()
            .find(|method| method.parent_service().full_name() == PREFERRED)
            .ok_or_else(|| ambiguous(name, many))?,
    };
    if method.is_client_streaming() {
        return Err(format!(
            "{} takes a stream of messages; only methods that take one message can be called",
            written(method)
        ));
    }
    Ok(method.clone())
}

fn unknown(pool: &DescriptorPool, name: &str) -> String {
    let last = name.rsplit(['/', '.']).next().unwrap_or(name);
    let same = methods(pool).filter(|method| method.name().eq_ignore_ascii_case(last));
    match same.max_by_key(|method| method.parent_service().full_name() == PREFERRED) {
        Some(method) => format!("no method is called {name:?}; did you mean {}?", written(&method)),
        None => format!("no method is called {name:?}; --list shows them all"),
    }
}

fn ambiguous(name: &str, methods: &[MethodDescriptor]) -> String {
    let names: Vec<_> = methods.iter().map(written).collect();
    format!("several methods are called {name:?}: {}", names.join(", "))
}

/// Every method whose name contains `part`, a line each.
pub(super) fn list(pool: &DescriptorPool, part: &str) -> String {
    let part = part.to_lowercase();
    let mut lines: Vec<_> = methods(pool)
        .map(|method| format!("{}{}\n", written(&method), streams(&method)))
        .filter(|line| line.to_lowercase().contains(&part))
        .collect();
    lines.sort();
    lines.concat()
}

fn streams(method: &MethodDescriptor) -> &'static str {
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => "",
        (false, true) => "  (answers with a stream)",
        (true, false) => "  (takes a stream: cannot be called from here)",
        (true, true) => "  (streams both ways: cannot be called from here)",
    }
}

fn methods(pool: &DescriptorPool) -> impl Iterator<Item = MethodDescriptor> + '_ {
    pool.services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
}

fn written(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// The path of the method on the wire.
pub(super) fn path(method: &MethodDescriptor) -> anyhow::Result<PathAndQuery> {
    format!("/{}", written(method))
        .parse()
        .context("path of the method")
}
