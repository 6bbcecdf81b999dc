//! `layotto call`: one call of the runtime API, JSON in and out.

mod channel;
mod codec;
mod method;

use std::{error::Error, io::Read, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use layotto_core::{GoDuration, Secret};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor, ReflectMessage, SerializeOptions,
};
use serde_json::Value as Json;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap},
};

use self::codec::Dynamic;
use super::{Failure, print, start};

const AFTER_HELP: &str = "\
Messages are protobuf JSON: fields by name, bytes in base64, 64-bit numbers as texts. METHOD is a
name such as GetState, Runtime/GetState or spec.proto.runtime.v1.Runtime/GetState. A method that
answers with a stream prints a line for each message. A status other than OK goes to standard
error, and the exit code is 1. LAYOTTO_API_TOKEN is sent as metadata layotto-api-token.

Examples:
  layotto call --list
  layotto call SayHello '{\"service_name\": \"helloworld\"}'
  echo '{\"store_name\": \"state_demo\", \"key\": \"k\"}' | layotto call GetState -
  layotto call --addr unix:/run/layotto.sock -H 'tenant: a' GetState '{\"store_name\": \"s\", \"key\": \"k\"}'";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct CallArgs {
    /// Method
    #[arg(required_unless_present = "list")]
    method: Option<String>,
    /// Request; `-` reads it from standard input
    #[arg(value_name = "JSON", default_value = "{}", hide_default_value = true)]
    request: String,
    /// Address: host:port, or unix:PATH
    #[arg(long, default_value = "127.0.0.1:34904")]
    addr: String,
    /// Metadata to send, `name: value`; values of names that end in -bin are base64
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Longest wait for the whole answer [default: 30s; none for streams]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// List the methods; METHOD restricts the list to names that contain it
    #[arg(long)]
    list: bool,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<GoDuration>().map_err(|error| error.to_string())?;
    Ok(parsed.0)
}

pub(super) fn call(args: CallArgs) -> Result<ExitCode, Failure> {
    let pool =
        DescriptorPool::decode(layotto_proto::FILE_DESCRIPTOR_SET).context("descriptors of the API")?;
    if args.list {
        return print(method::list(&pool, args.method.as_deref().unwrap_or_default()));
    }
    let method = method::find(&pool, args.method.as_deref().unwrap_or_default()).map_err(Failure::usage)?;
    let message = message(&method, &args.request)?;
    let mut request = Request::new(message);
    *request.metadata_mut() = metadata(&args.headers).map_err(Failure::usage)?;
    if let Some(token) = start::api_token() {
        add_token(request.metadata_mut(), &token).map_err(Failure::usage)?;
    }
    let default = (!method.is_server_streaming()).then_some(Duration::from_secs(30));
    let timeout = args.timeout.or(default);
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(within(timeout, exchange(&args.addr, &method, request)))
}

async fn within(
    timeout: Option<Duration>,
    exchange: impl Future<Output = Result<ExitCode, Failure>>,
) -> Result<ExitCode, Failure> {
    let Some(timeout) = timeout else {
        return exchange.await;
    };
    // The server gets the first chance to say that the time is over.
    let patience = timeout + Duration::from_millis(200);
    match tokio::time::timeout(patience, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let text = format!("no answer within {}", GoDuration(timeout));
            Err(failed(&Status::deadline_exceeded(text)))
        }
    }
}

async fn exchange(
    address: &str,
    method: &MethodDescriptor,
    request: Request<DynamicMessage>,
) -> Result<ExitCode, Failure> {
    let channel = channel::connect(address).await?;
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
    client
        .ready()
        .await
        .map_err(|error| failed(&unavailable(&error)))?;
    let path = method::path(method)?;
    let codec = Dynamic::new(method.output());
    let answer = client.server_streaming(request, path, codec).await;
    let answers = answer.map_err(|status| failed(&status))?.into_inner();
    print_all(answers, method.is_server_streaming()).await
}

fn unavailable(error: &tonic::transport::Error) -> Status {
    Status::unavailable(channel::chain(error))
}

async fn print_all(mut answers: Streaming<DynamicMessage>, is_stream: bool) -> Result<ExitCode, Failure> {
    while let Some(message) = answers.message().await.map_err(|status| failed(&status))? {
        let json = to_json(&message)?;
        if is_stream {
            print(format_args!("{json}\n"))?;
        } else {
            print(format_args!("{json:#}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(message: &DynamicMessage) -> anyhow::Result<Json> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false);
    let mut message = message.clone();
    let untyped = take_untyped(&mut message);
    let mut json = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .context("the answer cannot be written as JSON")?;
    for (name, bytes) in untyped {
        json[name] = serde_json::json!({"value": codec::to_base64(&bytes)});
    }
    Ok(json)
}

/// Takes data out that does not say of which type it is, such as what a service answered: protobuf
/// has no JSON for it.
fn take_untyped(message: &mut DynamicMessage) -> Vec<(String, Vec<u8>)> {
    let mut taken = Vec::new();
    let fields: Vec<_> = message.descriptor().fields().collect();
    for field in fields.iter().filter(|field| !field.is_list() && !field.is_map()) {
        let value = message.get_field(field).into_owned();
        let Some(any) = value.as_message().filter(|_| message.has_field(field)) else {
            continue;
        };
        let text = |name| any.get_field_by_name(name).map(|value| value.into_owned());
        let is_any = any.descriptor().full_name() == "google.protobuf.Any";
        if is_any && text("type_url").is_some_and(|url| url.as_str() == Some("")) {
            let bytes = text("value").and_then(|value| Some(value.as_bytes()?.to_vec()));
            message.clear_field(field);
            taken.push((field.name().to_owned(), bytes.unwrap_or_default()));
        }
    }
    taken
}

fn message(method: &MethodDescriptor, text: &str) -> Result<DynamicMessage, Failure> {
    let mut input = String::new();
    let text = if text == "-" {
        std::io::stdin()
            .read_to_string(&mut input)
            .context("cannot read standard input")?;
        input.as_str()
    } else {
        text
    };
    let text = if text.trim().is_empty() { "{}" } else { text };
    let mut json = serde_json::Deserializer::from_str(text);
    let options = DeserializeOptions::new();
    let wrong = |error: &dyn std::fmt::Display| {
        let fields: Vec<_> = method
            .input()
            .fields()
            .map(|field| field.name().to_owned())
            .collect();
        let fields = if fields.is_empty() {
            "none".to_owned()
        } else {
            fields.join(", ")
        };
        Failure::usage(format_args!(
            "the request is no {}: {error}; its fields: {fields}",
            method.input().full_name()
        ))
    };
    let message = DynamicMessage::deserialize_with_options(method.input(), &mut json, &options)
        .map_err(|error| wrong(&error))?;
    json.end().map_err(|error| wrong(&error))?;
    Ok(message)
}

fn metadata(headers: &[String]) -> Result<MetadataMap, String> {
    let mut metadata = MetadataMap::new();
    for header in headers {
        let (name, value) = split_header(header)?;
        let wrong = |what: &str| format!("header {name:?}: the {what} is not allowed in metadata");
        if name.ends_with("-bin") {
            let key: BinaryMetadataKey = name.parse().map_err(|_| wrong("name"))?;
            let bytes = codec::base64(value).ok_or_else(|| wrong("value, which must be base64,"))?;
            metadata.append_bin(key, BinaryMetadataValue::from_bytes(&bytes));
        } else {
            let key: AsciiMetadataKey = name.parse().map_err(|_| wrong("name"))?;
            let value: AsciiMetadataValue = value.parse().map_err(|_| wrong("value"))?;
            metadata.append(key, value);
        }
    }
    Ok(metadata)
}

/// A name in lower case, and a value.
pub(super) fn split_header(line: &str) -> Result<(String, &str), String> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| format!("header {line:?}: expected NAME: VALUE"))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim()))
}

fn add_token(metadata: &mut MetadataMap, token: &Secret) -> Result<(), &'static str> {
    let mut value: AsciiMetadataValue = token
        .expose()
        .parse()
        .map_err(|_| "the API token has characters that metadata cannot have")?;
    value.set_sensitive(true);
    metadata.insert("layotto-api-token", value);
    Ok(())
}

fn failed(status: &Status) -> Failure {
    let name = layotto_api::status::name(code(status));
    let message = match status.message() {
        "" => name.to_owned(),
        text => format!("{name}: {text}"),
    };
    Failure { message, code: 1 }
}

/// The code; the channel calls it cancelled when the time is over before the server says so.
fn code(status: &Status) -> Code {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::TimeoutExpired>() {
            return Code::DeadlineExceeded;
        }
        cause = error.source();
    }
    status.code()
}

#[cfg(test)]
mod tests;
