//! Administration of running components.

use std::sync::Arc;

use layotto_proto::runtime::v1::{ApplyConfigurationResponse, DynamicConfiguration, lifecycle_server};
use tonic::{Request, Response, Status};

use crate::{Runtime, ops::lifecycle, status};

/// The Lifecycle service.
pub(super) struct Lifecycle(pub(super) Arc<Runtime>);

#[tonic::async_trait]
impl lifecycle_server::Lifecycle for Lifecycle {
    async fn apply_configuration(
        &self,
        request: Request<DynamicConfiguration>,
    ) -> Result<Response<ApplyConfigurationResponse>, Status> {
        let component = request.into_inner().component_config.unwrap_or_default();
        lifecycle::apply(&self.0, &component.kind, &component.name, component.metadata)
            .await
            .map(|()| Response::new(ApplyConfigurationResponse {}))
            .map_err(|error| status::from_error(&error))
    }
}
