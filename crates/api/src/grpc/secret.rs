//! Secrets.

use layotto_core::Result;
use layotto_proto::runtime::v1::{
    GetBulkSecretRequest, GetBulkSecretResponse, GetSecretRequest, GetSecretResponse, SecretResponse,
};

use crate::{Runtime, ops::secret};

pub(super) async fn get(runtime: &Runtime, request: GetSecretRequest) -> Result<GetSecretResponse> {
    let GetSecretRequest {
        store_name,
        key,
        metadata,
    } = request;
    let data = secret::get(runtime, &store_name, &key, &metadata).await?;
    Ok(GetSecretResponse { data })
}

pub(super) async fn bulk_get(
    runtime: &Runtime,
    request: GetBulkSecretRequest,
) -> Result<GetBulkSecretResponse> {
    let GetBulkSecretRequest { store_name, metadata } = request;
    let secrets = secret::bulk_get(runtime, &store_name, &metadata).await?;
    let data = secrets
        .into_iter()
        .map(|(name, secrets)| (name, SecretResponse { secrets }))
        .collect();
    Ok(GetBulkSecretResponse { data })
}
