//! The application of a case: answers as the recording says, and keeps what it was called with.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use layotto_proto::runtime::v1::{
    ListTopicSubscriptionsResponse, TopicEventRequest, TopicEventResponse, TopicSubscription,
    app_callback_server::{AppCallback, AppCallbackServer},
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value as Json, json};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use super::json as message_json;

/// The running application.
pub struct App {
    calls: mpsc::Receiver<Json>,
    task: tokio::task::JoinHandle<()>,
}

struct Service {
    calls: mpsc::Sender<Json>,
    subscriptions: Option<Vec<TopicSubscription>>,
    replies: Vec<Result<i32, Status>>,
    next: AtomicUsize,
    pool: Mutex<DescriptorPool>,
}

impl App {
    /// Starts it on `port`, as `setup` says.
    pub async fn start(port: u16, setup: &Json) -> Self {
        let (sender, calls) = mpsc::channel(1024);
        let subscriptions = setup
            .get("subscriptions")
            .and_then(Json::as_array)
            .map(|list| list.iter().map(subscription).collect());
        let replies = setup
            .get("on_event")
            .and_then(Json::as_array)
            .cloned()
            .unwrap_or_default();
        let service = Service {
            calls: sender,
            subscriptions,
            replies: replies.iter().map(reply).collect(),
            next: AtomicUsize::new(0),
            pool: Mutex::new(DescriptorPool::decode(layotto_proto::FILE_DESCRIPTOR_SET).unwrap()),
        };
        let incoming = TcpIncoming::from(TcpListener::bind(("127.0.0.1", port)).await.unwrap());
        let server = tonic::transport::Server::builder().add_service(AppCallbackServer::new(service));
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Self { calls, task }
    }

    /// The next call, if one comes in time.
    pub async fn next(&mut self, patience: Duration) -> Option<Json> {
        tokio::time::timeout(patience, self.calls.recv())
            .await
            .ok()
            .flatten()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reply(json: &Json) -> Result<i32, Status> {
    if let Some(code) = json.get("code").and_then(Json::as_str) {
        assert_eq!(code, "UNIMPLEMENTED", "no other code is recorded");
        return Err(Status::unimplemented(
            json["message"].as_str().unwrap_or_default(),
        ));
    }
    Ok(match json.as_str() {
        Some("SUCCESS") => 0,
        Some("RETRY") => 1,
        Some("DROP") => 2,
        _ => i32::try_from(json.as_i64().unwrap()).unwrap(),
    })
}

fn subscription(json: &Json) -> TopicSubscription {
    let text = |name: &str| {
        json.get(name)
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let metadata = json
        .get("metadata")
        .and_then(Json::as_object)
        .into_iter()
        .flatten();
    TopicSubscription {
        pubsub_name: text("pubsub_name"),
        topic: text("topic"),
        metadata: metadata
            .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
            .collect(),
    }
}

impl Service {
    async fn keep(&self, method: &str, request: Json) {
        drop(
            self.calls
                .send(json!({"method": method, "request": request}))
                .await,
        );
    }
}

#[tonic::async_trait]
impl AppCallback for Service {
    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListTopicSubscriptionsResponse>, Status> {
        self.keep(
            "spec.proto.runtime.v1.AppCallback/ListTopicSubscriptions",
            json!({}),
        )
        .await;
        let subscriptions = self
            .subscriptions
            .clone()
            .ok_or_else(|| Status::unimplemented("no subscriptions"))?;
        Ok(Response::new(ListTopicSubscriptionsResponse { subscriptions }))
    }

    async fn on_topic_event(
        &self,
        request: Request<TopicEventRequest>,
    ) -> Result<Response<TopicEventResponse>, Status> {
        let shown = {
            let pool = self.pool.lock().unwrap();
            let descriptor = pool
                .get_message_by_name("spec.proto.runtime.v1.TopicEventRequest")
                .unwrap();
            let bytes = request.into_inner().encode_to_vec();
            message_json::write(&DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap())
        };
        self.keep("spec.proto.runtime.v1.AppCallback/OnTopicEvent", shown)
            .await;
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let reply = self
            .replies
            .get(next)
            .or(self.replies.last())
            .cloned()
            .unwrap_or(Ok(0));
        reply.map(|status| Response::new(TopicEventResponse { status }))
    }
}
