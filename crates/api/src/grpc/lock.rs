//! Distributed locks.

use layotto_core::{
    Result,
    lock::{Grant, Status},
};
use layotto_proto::runtime::v1::{
    LockKeepAliveRequest, LockKeepAliveResponse, TryLockRequest, TryLockResponse, UnlockRequest,
    UnlockResponse, lock_keep_alive_response, unlock_response,
};
use tonic::Response;

use crate::{
    Runtime,
    ops::lock::{self, Request},
};

/// The initial metadata that carries the fencing token of a grant.
const FENCING_TOKEN: &str = "layotto-fencing-token";

pub(super) async fn try_lock(
    runtime: &Runtime,
    request: TryLockRequest,
) -> Result<Response<TryLockResponse>> {
    let TryLockRequest {
        store_name,
        resource_id,
        lock_owner,
        expire,
    } = request;
    let wish = Request {
        store: store_name,
        resource: resource_id,
        owner: lock_owner,
    };
    let (success, token) = match lock::try_lock(runtime, wish, expire).await? {
        Grant::Acquired { fencing_token } => (true, fencing_token),
        Grant::Busy => (false, None),
    };
    Ok(fenced(TryLockResponse { success }, token))
}

pub(super) async fn unlock(runtime: &Runtime, request: UnlockRequest) -> Result<UnlockResponse> {
    let UnlockRequest {
        store_name,
        resource_id,
        lock_owner,
    } = request;
    let held = Request {
        store: store_name,
        resource: resource_id,
        owner: lock_owner,
    };
    let status = match lock::unlock(runtime, held).await? {
        Status::Success => unlock_response::Status::Success,
        Status::Unexist => unlock_response::Status::LockUnexist,
        Status::BelongsToOthers => unlock_response::Status::LockBelongToOthers,
        Status::InternalError => unlock_response::Status::InternalError,
    };
    Ok(UnlockResponse {
        status: status.into(),
    })
}

pub(super) async fn keep_alive(
    runtime: &Runtime,
    request: LockKeepAliveRequest,
) -> Result<Response<LockKeepAliveResponse>> {
    let LockKeepAliveRequest {
        store_name,
        resource_id,
        lock_owner,
        expire,
    } = request;
    let held = Request {
        store: store_name,
        resource: resource_id,
        owner: lock_owner,
    };
    let (status, token) = lock::keep_alive(runtime, held, expire).await?;
    let status = match status {
        Status::Success => lock_keep_alive_response::Status::Success,
        Status::Unexist => lock_keep_alive_response::Status::LockUnexist,
        Status::BelongsToOthers => lock_keep_alive_response::Status::LockBelongToOthers,
        Status::InternalError => lock_keep_alive_response::Status::InternalError,
    };
    Ok(fenced(
        LockKeepAliveResponse {
            status: status.into(),
        },
        token,
    ))
}

fn fenced<T>(message: T, token: Option<u64>) -> Response<T> {
    let mut response = Response::new(message);
    if let Some(token) = token {
        response.metadata_mut().insert(FENCING_TOKEN, token.into());
    }
    response
}
