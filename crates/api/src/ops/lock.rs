//! Distributed locks.

use std::time::Duration;

use layotto_core::{
    Error, ErrorKind, Result,
    lock::{Grant, LockStore, Owned, Status},
};

use crate::{
    Slot,
    runtime::{Runtime, component_error, look_up},
    status::REASON,
};

/// Who wants, holds or gives back which lock, as the caller says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The lock store.
    pub store: String,
    /// The resource, without a prefix.
    pub resource: String,
    /// The owner's name, unique to one holder.
    pub owner: String,
}

/// Takes a lock when it is free, for `expire` seconds.
pub async fn try_lock(runtime: &Runtime, request: Request, expire: i32) -> Result<Grant> {
    let (slot, lock, expire) = lease(runtime, request, expire)?;
    let grant = async { slot.get()?.try_lock(&lock, expire).await }.await;
    grant.map_err(|error| unwrapped(slot, error))
}

/// Gives a lock back.
pub async fn unlock(runtime: &Runtime, request: Request) -> Result<Status> {
    require_owner(runtime, &request)?;
    let slot = find(runtime, &request.store)?;
    let lock = owned(slot, request)?;
    let status = async { slot.get()?.unlock(&lock).await }.await;
    status.map_err(|error| unwrapped(slot, error))
}

/// Makes a held lock end `expire` seconds from now; the second part is its fencing token.
pub async fn keep_alive(runtime: &Runtime, request: Request, expire: i32) -> Result<(Status, Option<u64>)> {
    let (slot, lock, expire) = lease(runtime, request, expire)?;
    let status = async { slot.get()?.keep_alive(&lock, expire).await }.await;
    status.map_err(|error| unwrapped(slot, error))
}

/// Upstream's order: owner and expiry are checked before the store is looked up.
fn lease(
    runtime: &Runtime,
    request: Request,
    expire: i32,
) -> Result<(&Slot<dyn LockStore>, Owned, Duration)> {
    require_owner(runtime, &request)?;
    let seconds = u64::try_from(expire).ok().filter(|seconds| *seconds > 0);
    let seconds = seconds
        .ok_or_else(|| Error::invalid(format!("Expire is not positive in lock store {}", request.store)))?;
    let slot = find(runtime, &request.store)?;
    Ok((slot, owned(slot, request)?, Duration::from_secs(seconds)))
}

fn require_owner(runtime: &Runtime, request: &Request) -> Result<()> {
    if runtime.components.lock.is_empty() {
        return Err(not_configured());
    }
    let store = &request.store;
    if request.resource.is_empty() {
        return Err(Error::invalid(format!(
            "ResourceId is empty in lock store {store}"
        )));
    }
    if request.owner.is_empty() {
        return Err(Error::invalid(format!(
            "LockOwner is empty in lock store {store}"
        )));
    }
    Ok(())
}

fn not_configured() -> Error {
    Error::new(ErrorKind::FailedPrecondition, "lock store is not configured")
        .with_detail(REASON, "NOT_CONFIGURED")
}

fn find<'a>(runtime: &'a Runtime, store: &str) -> Result<&'a Slot<dyn LockStore>> {
    let none = || "lock store is not configured".to_owned();
    let unknown = || format!("lock store {store} not found");
    look_up(&runtime.components.lock, store, none, unknown).map(|slot| &**slot)
}

fn owned(slot: &Slot<dyn LockStore>, request: Request) -> Result<Owned> {
    Ok(Owned {
        resource: slot.prefix().apply(&request.resource)?,
        owner: request.owner,
    })
}

fn unwrapped(slot: &Slot<dyn LockStore>, error: Error) -> Error {
    component_error("lock", &slot.name, error.message().to_owned(), error)
}

#[cfg(test)]
mod tests;
