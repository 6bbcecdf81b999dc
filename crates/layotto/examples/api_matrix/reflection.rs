//! What a server says that it serves, by reflection.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, Result, bail};
use prost::Message;
use prost_reflect::{DescriptorPool, MethodDescriptor, prost_types::FileDescriptorProto};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// Every method of every service that the server lists.
pub async fn methods(channel: Channel) -> Result<Vec<MethodDescriptor>> {
    let mut server = Server::open(channel).await?;
    let services = server.services().await?;
    let mut files = BTreeMap::new();
    for service in &services {
        server.file_of(service, &mut files).await?;
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files.into_values())?;
    let mut methods = Vec::new();
    for service in &services {
        let described = pool
            .get_service_by_name(service)
            .with_context(|| format!("{service} is not described"))?;
        methods.extend(described.methods());
    }
    Ok(methods)
}

/// A conversation with the reflection service.
struct Server {
    questions: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
}

impl Server {
    async fn open(channel: Channel) -> Result<Self> {
        let (questions, outgoing) = mpsc::channel(1);
        let mut client = ServerReflectionClient::new(channel);
        let answers = client
            .server_reflection_info(ReceiverStream::new(outgoing))
            .await?;
        Ok(Self {
            questions,
            answers: answers.into_inner(),
        })
    }

    async fn ask(&mut self, question: MessageRequest) -> Result<MessageResponse> {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        self.questions.send(request).await?;
        let answer = self
            .answers
            .message()
            .await?
            .context("the reflection stream ended")?;
        answer
            .message_response
            .context("an empty answer of the reflection service")
    }

    async fn services(&mut self) -> Result<Vec<String>> {
        match self.ask(MessageRequest::ListServices(String::new())).await? {
            MessageResponse::ListServicesResponse(list) => {
                Ok(list.service.into_iter().map(|service| service.name).collect())
            }
            other => bail!("unexpected answer to ListServices: {other:?}"),
        }
    }

    /// Adds the file that describes `symbol`, and all that it imports.
    async fn file_of(
        &mut self,
        symbol: &str,
        files: &mut BTreeMap<String, FileDescriptorProto>,
    ) -> Result<()> {
        let mut wanted = VecDeque::from([MessageRequest::FileContainingSymbol(symbol.to_owned())]);
        while let Some(question) = wanted.pop_front() {
            if matches!(&question, MessageRequest::FileByFilename(name) if files.contains_key(name)) {
                continue;
            }
            let MessageResponse::FileDescriptorResponse(answer) = self.ask(question.clone()).await? else {
                bail!("no file for {question:?}");
            };
            for bytes in answer.file_descriptor_proto {
                let file = FileDescriptorProto::decode(bytes.as_slice())?;
                wanted.extend(
                    file.dependency
                        .iter()
                        .cloned()
                        .map(MessageRequest::FileByFilename),
                );
                files.insert(file.name().to_owned(), file);
            }
        }
        Ok(())
    }
}
