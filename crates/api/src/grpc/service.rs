//! The Runtime service: each method hands its message to the module of its building block.

use std::sync::Arc;

use futures::{TryStreamExt, stream::BoxStream};
use layotto_proto::runtime::v1::*;
use tonic::{Request, Response, Status, Streaming};

use super::{binding, configuration, file, framework, hello, invoke, lock, pubsub, secret, sequencer, state};
use crate::{Runtime, status::from_error};

/// The Runtime service.
pub(super) struct Api(pub(super) Arc<Runtime>);

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = BoxStream<'static, Result<T, Status>>;

fn answer<T>(outcome: layotto_core::Result<T>) -> Answer<T> {
    whole(outcome.map(Response::new))
}

fn whole<T>(outcome: layotto_core::Result<Response<T>>) -> Answer<T> {
    outcome.map_err(|error| from_error(&error))
}

#[tonic::async_trait]
impl runtime_server::Runtime for Api {
    async fn say_hello(&self, request: Request<SayHelloRequest>) -> Answer<SayHelloResponse> {
        answer(hello::hello(&self.0, request.into_inner()).await)
    }

    async fn invoke_service(&self, request: Request<InvokeServiceRequest>) -> Answer<InvokeResponse> {
        whole(invoke::invoke(&self.0, request).await)
    }

    async fn get_configuration(
        &self,
        request: Request<GetConfigurationRequest>,
    ) -> Answer<GetConfigurationResponse> {
        answer(configuration::get(&self.0, request.into_inner()).await)
    }

    async fn save_configuration(&self, request: Request<SaveConfigurationRequest>) -> Answer<()> {
        answer(configuration::save(&self.0, request.into_inner()).await)
    }

    async fn delete_configuration(&self, request: Request<DeleteConfigurationRequest>) -> Answer<()> {
        answer(configuration::delete(&self.0, request.into_inner()).await)
    }

    type SubscribeConfigurationStream = Answers<SubscribeConfigurationResponse>;

    async fn subscribe_configuration(
        &self,
        request: Request<Streaming<SubscribeConfigurationRequest>>,
    ) -> Answer<Self::SubscribeConfigurationStream> {
        Ok(configuration::subscribe(&self.0, request))
    }

    async fn try_lock(&self, request: Request<TryLockRequest>) -> Answer<TryLockResponse> {
        whole(lock::try_lock(&self.0, request.into_inner()).await)
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Answer<UnlockResponse> {
        answer(lock::unlock(&self.0, request.into_inner()).await)
    }

    async fn lock_keep_alive(&self, request: Request<LockKeepAliveRequest>) -> Answer<LockKeepAliveResponse> {
        whole(lock::keep_alive(&self.0, request.into_inner()).await)
    }

    async fn get_next_id(&self, request: Request<GetNextIdRequest>) -> Answer<GetNextIdResponse> {
        answer(sequencer::next_id(&self.0, request.into_inner()).await)
    }

    async fn get_state(&self, request: Request<GetStateRequest>) -> Answer<GetStateResponse> {
        answer(state::get(&self.0, request.into_inner()).await)
    }

    async fn get_bulk_state(&self, request: Request<GetBulkStateRequest>) -> Answer<GetBulkStateResponse> {
        answer(state::bulk_get(&self.0, request.into_inner()).await)
    }

    async fn save_state(&self, request: Request<SaveStateRequest>) -> Answer<()> {
        answer(state::save(&self.0, request.into_inner()).await)
    }

    async fn delete_state(&self, request: Request<DeleteStateRequest>) -> Answer<()> {
        answer(state::delete(&self.0, request.into_inner()).await)
    }

    async fn delete_bulk_state(&self, request: Request<DeleteBulkStateRequest>) -> Answer<()> {
        answer(state::bulk_delete(&self.0, request.into_inner()).await)
    }

    async fn execute_state_transaction(
        &self,
        request: Request<ExecuteStateTransactionRequest>,
    ) -> Answer<()> {
        answer(state::transact(&self.0, request.into_inner()).await)
    }

    async fn publish_event(&self, request: Request<PublishEventRequest>) -> Answer<()> {
        pubsub::publish_event(&self.0, request).await
    }

    type SubscribeTopicEventsStream = pubsub::Events;

    async fn subscribe_topic_events(
        &self,
        request: Request<Streaming<SubscribeTopicEventsRequest>>,
    ) -> Answer<Self::SubscribeTopicEventsStream> {
        let requests = request.into_inner().map_err(framework::reword);
        pubsub::subscribe_topic_events(Arc::clone(&self.0), requests).await
    }

    type GetFileStream = Answers<GetFileResponse>;

    async fn get_file(&self, request: Request<GetFileRequest>) -> Answer<Self::GetFileStream> {
        answer(file::get(&self.0, request.into_inner()).await)
    }

    async fn put_file(&self, request: Request<Streaming<PutFileRequest>>) -> Answer<()> {
        file::put(&self.0, request).await.map(Response::new)
    }

    async fn list_file(&self, request: Request<ListFileRequest>) -> Answer<ListFileResp> {
        answer(file::list(&self.0, request.into_inner()).await)
    }

    async fn del_file(&self, request: Request<DelFileRequest>) -> Answer<()> {
        answer(file::delete(&self.0, request.into_inner()).await)
    }

    async fn get_file_meta(&self, request: Request<GetFileMetaRequest>) -> Answer<GetFileMetaResponse> {
        answer(file::stat(&self.0, request.into_inner()).await)
    }

    async fn invoke_binding(&self, request: Request<InvokeBindingRequest>) -> Answer<InvokeBindingResponse> {
        answer(binding::invoke(&self.0, request.into_inner()).await)
    }

    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Answer<GetSecretResponse> {
        answer(secret::get(&self.0, request.into_inner()).await)
    }

    async fn get_bulk_secret(&self, request: Request<GetBulkSecretRequest>) -> Answer<GetBulkSecretResponse> {
        answer(secret::bulk_get(&self.0, request.into_inner()).await)
    }
}
