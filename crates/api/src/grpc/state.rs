//! State stores.

use layotto_core::{
    Result,
    state::{Concurrency, Consistency, Item, Options},
};
use layotto_proto::runtime::v1::{
    BulkStateItem, DeleteBulkStateRequest, DeleteStateRequest, Etag, ExecuteStateTransactionRequest,
    GetBulkStateRequest, GetBulkStateResponse, GetStateRequest, GetStateResponse, SaveStateRequest,
    StateItem, StateOptions, TransactionalStateOperation,
    state_options::{StateConcurrency, StateConsistency},
};

use crate::{
    Runtime,
    ops::state::{self, BulkGet, BulkItem, Change, Step},
};

pub(super) async fn get(runtime: &Runtime, request: GetStateRequest) -> Result<GetStateResponse> {
    let GetStateRequest {
        store_name,
        key,
        consistency,
        metadata,
    } = request;
    let item = state::get(runtime, &store_name, &key, consistency_of(consistency), metadata).await?;
    let Item {
        value,
        etag,
        metadata,
    } = item.unwrap_or_default();
    Ok(GetStateResponse {
        data: value,
        etag: etag.unwrap_or_default(),
        metadata,
    })
}

pub(super) async fn bulk_get(
    runtime: &Runtime,
    request: GetBulkStateRequest,
) -> Result<GetBulkStateResponse> {
    let GetBulkStateRequest {
        store_name,
        keys,
        parallelism,
        metadata,
    } = request;
    let items = state::bulk_get(
        runtime,
        &store_name,
        BulkGet {
            keys,
            parallelism,
            metadata,
        },
    )
    .await?;
    Ok(GetBulkStateResponse {
        items: items.into_iter().map(bulk_item).collect(),
    })
}

fn bulk_item(BulkItem { key, outcome }: BulkItem) -> BulkStateItem {
    match outcome {
        Ok(item) => {
            let Item {
                value,
                etag,
                metadata,
            } = item.unwrap_or_default();
            let etag = etag.unwrap_or_default();
            BulkStateItem {
                key,
                data: value,
                etag,
                error: String::new(),
                metadata,
            }
        }
        Err(error) => BulkStateItem {
            key,
            error: error.message().to_owned(),
            ..BulkStateItem::default()
        },
    }
}

pub(super) async fn save(runtime: &Runtime, request: SaveStateRequest) -> Result<()> {
    let SaveStateRequest { store_name, states } = request;
    state::save(runtime, &store_name, states.into_iter().map(change).collect()).await
}

pub(super) async fn delete(runtime: &Runtime, request: DeleteStateRequest) -> Result<()> {
    let DeleteStateRequest {
        store_name,
        key,
        etag,
        options,
        metadata,
    } = request;
    let removal = StateItem {
        key,
        etag,
        options,
        metadata,
        ..StateItem::default()
    };
    state::delete(runtime, &store_name, change(removal)).await
}

pub(super) async fn bulk_delete(runtime: &Runtime, request: DeleteBulkStateRequest) -> Result<()> {
    let DeleteBulkStateRequest { store_name, states } = request;
    state::bulk_delete(runtime, &store_name, states.into_iter().map(change).collect()).await
}

pub(super) async fn transact(runtime: &Runtime, request: ExecuteStateTransactionRequest) -> Result<()> {
    let ExecuteStateTransactionRequest {
        store_name,
        operations,
        metadata,
    } = request;
    let steps = operations.into_iter().map(step).collect();
    state::transact(runtime, &store_name, steps, &metadata).await
}

fn step(operation: TransactionalStateOperation) -> Step {
    let TransactionalStateOperation {
        operation_type,
        request,
    } = operation;
    Step {
        operation: operation_type,
        change: request.map(change),
    }
}

fn change(item: StateItem) -> Change {
    let StateItem {
        key,
        value,
        etag,
        metadata,
        options,
    } = item;
    let etag = etag.map(|Etag { value }| value);
    Change {
        key,
        value,
        etag,
        options: options_of(options),
        metadata,
    }
}

fn options_of(options: Option<StateOptions>) -> Options {
    let StateOptions {
        concurrency,
        consistency,
    } = options.unwrap_or_default();
    let concurrency = match StateConcurrency::try_from(concurrency) {
        Ok(StateConcurrency::ConcurrencyFirstWrite) => Concurrency::FirstWrite,
        Ok(StateConcurrency::ConcurrencyLastWrite) => Concurrency::LastWrite,
        Ok(StateConcurrency::ConcurrencyUnspecified) | Err(_) => Concurrency::Unspecified,
    };
    Options {
        concurrency,
        consistency: consistency_of(consistency),
    }
}

/// Numbers that name nothing count as unspecified.
fn consistency_of(number: i32) -> Consistency {
    match StateConsistency::try_from(number) {
        Ok(StateConsistency::ConsistencyEventual) => Consistency::Eventual,
        Ok(StateConsistency::ConsistencyStrong) => Consistency::Strong,
        Ok(StateConsistency::ConsistencyUnspecified) | Err(_) => Consistency::Unspecified,
    }
}
