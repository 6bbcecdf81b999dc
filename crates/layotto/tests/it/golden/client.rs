//! A gRPC client that knows messages by their descriptors only.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::json as message_json;
use crate::raw::Raw;

/// The client of the recordings, whose headers InvokeService passes on.
const AGENT: &str = "grpc-python/1.85.3 grpc-c/58.0.0 (linux; chttp2)";
const ENCODINGS: &str = "identity, deflate, gzip";

/// A connection to a sidecar.
#[derive(Clone)]
pub struct Client {
    pool: DescriptorPool,
    channel: Channel,
}

/// Where a sidecar listens.
pub enum Target {
    /// A port of loopback.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

impl Client {
    /// Connects when it is first used.
    pub fn new(target: &Target) -> Self {
        let pool = DescriptorPool::decode(layotto_proto::FILE_DESCRIPTOR_SET).unwrap();
        let channel = match target {
            Target::Port(port) => {
                let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
                endpoint.user_agent(AGENT).unwrap().connect_lazy()
            }
            Target::Socket(path) => {
                let path = path.clone();
                let connector = tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
                });
                Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
            }
        };
        Self { pool, channel }
    }

    fn method(&self, path: &str) -> Option<MethodDescriptor> {
        let (service, name) = path.split_once('/')?;
        self.pool
            .get_service_by_name(service)?
            .methods()
            .find(|method| method.name() == name)
    }

    /// Makes the call that `step` describes and returns its outcome in the form of the recording.
    pub async fn call(&self, step: &Json) -> Map<String, Json> {
        let path = step["method"].as_str().unwrap();
        let method = self.method(path);
        let is_raw = step.get("request_bytes").is_some();
        let (client_streams, server_streams) = method.as_ref().map_or((false, false), |m| {
            (m.is_client_streaming(), m.is_server_streaming())
        });
        let messages: Vec<Bytes> = match (&method, step.get("requests")) {
            _ if is_raw => vec![
                STANDARD
                    .decode(step["request_bytes"].as_str().unwrap())
                    .unwrap()
                    .into(),
            ],
            (Some(method), Some(requests)) => requests
                .as_array()
                .unwrap()
                .iter()
                .map(|json| encode(&method.input(), json))
                .collect(),
            (Some(method), None) => vec![encode(&method.input(), step.get("request").unwrap_or(&json!({})))],
            (None, _) => vec![Bytes::new()],
        };
        let mut request = Request::new(futures::stream::iter(messages));
        *request.metadata_mut() = metadata(step.get("metadata"));
        if let Some(millis) = step.get("deadline_ms").and_then(Json::as_u64) {
            request.set_timeout(Duration::from_millis(millis));
        }
        let answers = self.stream(path, request).await;
        let output = method.map(|method| method.output());
        let shape = if server_streams {
            Shape::Stream
        } else {
            Shape::Single
        };
        let mut outcome = outcome(answers, output.as_ref(), shape).await;
        if client_streams && !server_streams && outcome.get("code").is_none() {
            outcome.entry("response").or_insert(Json::Null);
        }
        outcome
    }

    async fn stream(
        &self,
        path: &str,
        request: Request<impl futures::Stream<Item = Bytes> + Send + 'static>,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        client
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let path = format!("/{path}").parse().unwrap();
        client.streaming(request, path, Raw).await
    }

    /// Opens the bidirectional stream that `step` describes.
    pub fn open(&self, step: &Json) -> Stream {
        let path = step["method"].as_str().unwrap().to_owned();
        let method = self.method(&path).unwrap();
        let (sender, receiver) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(receiver));
        *request.metadata_mut() = metadata(step.get("metadata"));
        let client = self.clone();
        let (received, answers) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            let status = match client.stream(&path, request).await {
                Err(status) => status,
                Ok(response) => forward(response.into_inner(), &received).await,
            };
            // Nobody listens any more once the case is over.
            drop(received.send(Err(status)).await);
        });
        Stream {
            method,
            sender: Some(sender),
            answers,
            task,
        }
    }
}

async fn forward(mut answers: Streaming<Bytes>, received: &mpsc::Sender<Result<Bytes, Status>>) -> Status {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if received.send(Ok(answer)).await.is_err() {
                    return Status::cancelled("the case is over");
                }
            }
            Ok(None) => return Status::ok(""),
            Err(status) => return status,
        }
    }
}

/// An open bidirectional stream.
pub struct Stream {
    method: MethodDescriptor,
    sender: Option<mpsc::Sender<Bytes>>,
    answers: mpsc::Receiver<Result<Bytes, Status>>,
    task: tokio::task::JoinHandle<()>,
}

impl Stream {
    /// Sends a message.
    pub async fn send(&self, json: &Json) {
        let message = encode(&self.method.input(), json);
        // The server may have ended the stream; what it said comes with the next step.
        drop(self.sender.as_ref().unwrap().send(message).await);
    }

    /// Ends the sending side.
    pub fn half_close(&mut self) {
        self.sender = None;
    }

    /// Gives the stream up.
    pub fn cancel(&mut self) {
        self.sender = None;
        self.task.abort();
    }

    /// The next message or the status, in the form of the recording; `None` when nothing comes.
    pub async fn next(&mut self, patience: Duration) -> Option<Json> {
        let answer = tokio::time::timeout(patience, self.answers.recv()).await.ok()??;
        Some(match answer {
            Ok(bytes) => json!({"recv": decode(&self.method.output(), bytes)}),
            Err(status) => json!({"status": {"code": code(&status), "message": status.message()}}),
        })
    }
}

fn encode(descriptor: &MessageDescriptor, json: &Json) -> Bytes {
    message_json::read(descriptor, json).encode_to_vec().into()
}

fn decode(descriptor: &MessageDescriptor, bytes: Bytes) -> Json {
    message_json::write(&DynamicMessage::decode(descriptor.clone(), bytes).unwrap())
}

enum Shape {
    Single,
    Stream,
}

async fn outcome(
    answers: Result<Response<Streaming<Bytes>>, Status>,
    output: Option<&MessageDescriptor>,
    shape: Shape,
) -> Map<String, Json> {
    let mut outcome = Map::new();
    let mut messages = Vec::new();
    let status = match answers {
        Err(status) => status,
        Ok(response) => {
            outcome.insert("initial_metadata".into(), shown(response.metadata()));
            let mut stream = response.into_inner();
            let mut status = Status::ok("");
            while let Some(message) = stream.next().await {
                match message {
                    Ok(bytes) => messages.push(bytes),
                    Err(failure) => status = failure,
                }
            }
            if let Ok(Some(trailers)) = stream.trailers().await {
                outcome.insert("trailing_metadata".into(), shown(&trailers));
            }
            status
        }
    };
    let decoded = |bytes: Bytes| match output {
        Some(output) => decode(output, bytes),
        None => json!(STANDARD.encode(bytes)),
    };
    if matches!(shape, Shape::Stream) {
        outcome.insert("responses".into(), messages.into_iter().map(decoded).collect());
        outcome.insert("code".into(), json!(code(&status)));
    } else if let Some(bytes) = messages.pop() {
        outcome.insert("response_bytes".into(), json!(STANDARD.encode(&bytes)));
        outcome.insert("response".into(), decoded(bytes));
    }
    if status.code() != tonic::Code::Ok {
        outcome.insert("code".into(), json!(code(&status)));
        outcome.insert("message".into(), json!(status.message()));
    }
    outcome
}

/// The status code as the recordings spell it.
pub fn code(status: &Status) -> &'static str {
    layotto_api::status::name(status.code())
}

fn metadata(json: Option<&Json>) -> MetadataMap {
    let mut map = MetadataMap::new();
    map.insert("grpc-accept-encoding", ENCODINGS.parse().unwrap());
    for (name, value) in json.and_then(Json::as_object).into_iter().flatten() {
        if name.ends_with("-bin") {
            let key = MetadataKey::from_bytes(name.as_bytes()).unwrap();
            map.append_bin(key, MetadataValue::from_bytes(&message_json::bytes(value)));
            continue;
        }
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for value in values {
            let key = MetadataKey::from_bytes(name.as_bytes()).unwrap();
            map.append(key, value.as_str().unwrap().parse().unwrap());
        }
    }
    map
}

/// Metadata without what gRPC itself adds.
fn shown(map: &MetadataMap) -> Json {
    let mut all: HashMap<String, Json> = HashMap::new();
    for entry in map.iter() {
        let (name, value) = match entry {
            KeyAndValueRef::Ascii(name, value) => (name.as_str(), json!(value.to_str().unwrap_or_default())),
            KeyAndValueRef::Binary(name, value) => (
                name.as_str(),
                json!({"b64": STANDARD.encode(value.to_bytes().unwrap_or_default())}),
            ),
        };
        if name.starts_with("grpc-") || name == "content-type" {
            continue;
        }
        all.insert(name.to_owned(), value);
    }
    all.into_iter().collect::<Map<_, _>>().into()
}
