//! Calls every method that a server describes by reflection; prints method, code and text, a tab
//! between them.
//!
//! `cargo xtask api-matrix` runs it against the standalone configuration, whose components the
//! requests name. Each method gets one message and then the end of its stream, whatever its kind.

mod reflection;
mod requests;

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// How long a method may take; a stream that is still open then has answered.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("usage: api_matrix HOST:PORT")?;
    let channel = Channel::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let mut methods = reflection::methods(channel.clone()).await?;
    methods.sort_by_key(|method| requests::position(&name(method)));
    for method in methods {
        let name = name(&method);
        let status = call(&channel, &method, requests::request_of(&name)).await?;
        let text = status.message().replace(['\n', '\t'], " ");
        println!("{name}\t{:?}\t{text}", status.code());
    }
    Ok(())
}

/// The method as `package.Service/Method`.
fn name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// The status that the call ends with; OK for a stream that is still open.
async fn call(channel: &Channel, method: &MethodDescriptor, json: &str) -> Result<Status> {
    let mut json = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(method.input(), &mut json).with_context(|| name(method))?;
    let request = Request::new(tokio_stream::once(Bytes::from(message.encode_to_vec())));
    let path = format!("/{}", name(method)).parse()?;
    let mut client = Grpc::new(channel.clone());
    client.ready().await?;
    let answer = async {
        let mut answers = client.streaming(request, path, Raw).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Err(status)) => Ok(status),
        Ok(Ok(())) => Ok(Status::ok("")),
        Err(_) => Ok(Status::ok("still open")),
    }
}

/// Messages as the bytes they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
