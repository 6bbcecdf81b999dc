//! Output bindings.

use layotto_core::{
    Error, ErrorKind, Result,
    binding::{Binding, Request, Response},
};

use crate::{
    Slot,
    runtime::{Runtime, component_error, look_up},
};

/// Carries out one operation of binding `name`.
pub async fn invoke(runtime: &Runtime, name: &str, request: Request) -> Result<Response> {
    if request.operation.is_empty() {
        return Err(Error::invalid(text(
            name,
            "operation field is missing from request",
        )));
    }
    let slot = find(runtime, name)?;
    let outcome = async { call(&*slot.get()?, name, request).await }.await;
    outcome.map_err(|error| component_error("bindings", name, text(name, error.message()), error))
}

async fn call(binding: &dyn Binding, name: &str, request: Request) -> Result<Response> {
    let operations = binding.operations();
    if !operations.contains(&request.operation.as_str()) {
        let text = format!(
            "binding {name} does not support operation {}. supported operations:{}",
            request.operation,
            operations.join(" ")
        );
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    binding.invoke(request).await
}

fn find<'a>(runtime: &'a Runtime, name: &str) -> Result<&'a Slot<dyn Binding>> {
    let unknown = || text(name, &format!("couldn't find output binding {name}"));
    look_up(&runtime.components.binding, name, unknown, unknown).map(|slot| &**slot)
}

fn text(name: &str, reason: &str) -> String {
    format!("error when invoke output binding {name}: {reason}")
}
