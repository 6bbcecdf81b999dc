//! What Layotto adds to the ABI, and the runtime API through foreign functions.

use std::future::Future;

use bytes::Bytes;

use crate::{
    abi::{Level, Status},
    functions,
    guest::allows,
    host::Failure,
    memory::{Cx, Outcome, check, give, read, text},
};

pub(super) async fn get_state(
    cx: &mut Cx<'_>,
    store: u32,
    store_len: u32,
    key: u32,
    key_len: u32,
    ptr: u32,
    len: u32,
) -> Outcome {
    let (store, key) = (text(cx, store, store_len)?, text(cx, key, key_len)?);
    let facts = cx.data().facts.clone();
    if !allows(&facts.allowed.methods, "GetState") || !allows(&facts.allowed.stores, &store) {
        return Err(denied(cx, "proxy_get_state", &store));
    }
    let asker = cx.data().asker.clone();
    let found = outside(cx, facts.host.get_state(&asker, &store, &key)).await;
    let value = found.map_err(|failure| failed(cx, "proxy_get_state", &failure))?;
    give(cx, &value, ptr, len).await
}

#[allow(clippy::too_many_arguments, reason = "Layotto's")]
pub(super) async fn invoke_service(
    cx: &mut Cx<'_>,
    id: u32,
    id_len: u32,
    method: u32,
    method_len: u32,
    param: u32,
    param_len: u32,
    ptr: u32,
    len: u32,
) -> Outcome {
    let (id, method) = (text(cx, id, id_len)?, text(cx, method, method_len)?);
    let param = read(cx, param, param_len)?;
    // Before the service is called, which cannot be undone.
    check(cx, ptr, 4)?;
    check(cx, len, 4)?;
    let facts = cx.data().facts.clone();
    if !allows(&facts.allowed.methods, "InvokeService") {
        return Err(denied(cx, "proxy_invoke_service", &id));
    }
    let asker = cx.data().asker.clone();
    let answer = outside(cx, async {
        match facts.functions.upgrade().filter(|functions| functions.has(&id)) {
            Some(functions) => functions::invoke(&functions, &asker, &id, &method, param).await,
            None => facts.host.invoke_service(&asker, &id, &method, param).await,
        }
    });
    let answer = answer.await;
    let value = answer.map_err(|failure| failed(cx, "proxy_invoke_service", &failure))?;
    give(cx, &value, ptr, len).await
}

pub(super) async fn foreign(
    cx: &mut Cx<'_>,
    name: u32,
    name_len: u32,
    arguments: u32,
    arguments_len: u32,
    ptr: u32,
    len: u32,
) -> Outcome {
    let (name, request) = (text(cx, name, name_len)?, read(cx, arguments, arguments_len)?);
    // A guest that does not want the result points nowhere.
    let wanted = ptr != 0 || len != 0;
    if wanted {
        check(cx, ptr, 4)?;
        check(cx, len, 4)?;
    }
    let method = name.strip_prefix("layotto.").ok_or(Status::NotFound)?;
    let facts = cx.data().facts.clone();
    if !allows(&facts.allowed.methods, method) {
        return Err(denied(cx, "proxy_call_foreign_function", &name));
    }
    let asker = cx.data().asker.clone();
    let answer = outside(cx, facts.host.call_runtime(&asker, method, request)).await;
    let reply: Bytes = match answer {
        Err(Failure::Unknown) => return Err(Status::NotFound.into()),
        other => other.map_err(|failure| failed(cx, &name, &failure))?,
    };
    match wanted {
        true => give(cx, &reply, ptr, len).await,
        false => Ok(()),
    }
}

/// Waits for something that is not the guest's doing; the time does not count as its own. Nothing is
/// waited for once the guest's caller is gone.
async fn outside<T>(cx: &mut Cx<'_>, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let guest = cx.data_mut();
    guest.clock.pause();
    let result = tokio::select! {
        biased;
        () = guest.caller.gone() => Err(Failure::Failed("nobody waits for it any more".to_owned())),
        result = future => result,
    };
    guest.clock.resume();
    result
}

/// The guest sees a number only; why is in the log.
fn failed(cx: &Cx<'_>, what: &str, failure: &Failure) -> Status {
    let guest = cx.data();
    let text = format!("{what}: {failure}");
    guest.facts.host.log(&guest.asker.function, Level::Warn, &text);
    Status::InternalFailure
}

fn denied(cx: &Cx<'_>, what: &str, name: &str) -> crate::memory::Fail {
    let failure = Failure::Failed(format!("the function's settings do not allow {name:?}"));
    failed(cx, what, &failure).into()
}
