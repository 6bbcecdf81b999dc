//! Calls to other services: which header fields go there, and which come back.

use std::time::Duration;

use layotto_core::{
    Result,
    rpc::{self, Headers},
};
use layotto_proto::runtime::v1::{
    CommonInvokeRequest, HttpExtension, InvokeResponse, InvokeServiceRequest, http_extension::Verb,
};
use prost_types::Any;
use tonic::{
    Request, Response,
    metadata::{
        AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, KeyAndValueRef,
        MetadataMap,
    },
};

use super::deadline;
use crate::{Runtime, ops::invoke};

/// How long a call may take that says nothing else.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Metadata that says how long a call may take, in milliseconds.
const TIMEOUT_HEADER: &str = "rpc_request_timeout";
/// Metadata that takes the place of the message's `http_extension` where it has none.
const VERB_HEADER: &str = "verb";
const QUERY_HEADER: &str = "query_string";

/// Fields of the gRPC request that mean nothing, or something else, to the service called; and the
/// tokens, which are none of its business.
const NOT_PASSED_ON: [&str; 8] = [
    "content-type",
    "content-length",
    "te",
    "host",
    VERB_HEADER,
    QUERY_HEADER,
    "layotto-api-token",
    "dapr-api-token",
];
/// Fields of the service's answer that gRPC sets itself, and those that concern one connection.
const NOT_RETURNED: [&str; 9] = [
    "content-type",
    "content-length",
    "te",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];
const GRPC: &str = "grpc-";

pub(super) async fn invoke(
    runtime: &Runtime,
    request: Request<InvokeServiceRequest>,
) -> Result<Response<InvokeResponse>> {
    let answer = invoke::invoke(runtime, to_call(request)).await?;
    let mut response = Response::new(InvokeResponse {
        data: Some(Any {
            type_url: String::new(),
            value: answer.data.into(),
        }),
        content_type: answer.content_type,
    });
    for (name, value) in answer.headers {
        return_header(response.metadata_mut(), &name.to_ascii_lowercase(), value);
    }
    Ok(response)
}

fn to_call(request: Request<InvokeServiceRequest>) -> rpc::Request {
    let (metadata, _, message) = request.into_parts();
    let InvokeServiceRequest { id, message } = message;
    let CommonInvokeRequest {
        method,
        data,
        content_type,
        http_extension,
    } = message.unwrap_or_default();
    let (verb, query) = match http_extension {
        Some(HttpExtension { verb, querystring }) => (verb_name(verb), querystring),
        None => (text(&metadata, VERB_HEADER), text(&metadata, QUERY_HEADER)),
    };
    let timeout = timeout(&metadata);
    let headers = headers(&metadata);
    let data = data.unwrap_or_default().value.into();
    rpc::Request {
        id,
        method,
        verb,
        query,
        content_type,
        headers,
        data,
        timeout,
    }
}

fn verb_name(number: i32) -> String {
    match Verb::try_from(number) {
        Ok(Verb::None) | Err(_) => String::new(),
        Ok(verb) => verb.as_str_name().to_owned(),
    }
}

fn text(metadata: &MetadataMap, name: &str) -> String {
    metadata
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn timeout(metadata: &MetadataMap) -> Duration {
    let millis = metadata
        .get(TIMEOUT_HEADER)
        .and_then(|value| value.to_str().ok()?.parse::<i32>().ok());
    let wished = millis
        .and_then(|millis| u64::try_from(millis).ok())
        .filter(|millis| *millis > 0);
    let wished = wished.map_or(TIMEOUT, Duration::from_millis);
    deadline::timeout(metadata.as_ref()).map_or(wished, |deadline| deadline.min(wished))
}

fn headers(metadata: &MetadataMap) -> Headers {
    let passed_on = metadata.iter().filter_map(|field| {
        let (name, value) = match field {
            KeyAndValueRef::Ascii(name, value) => (
                name.as_str(),
                std::str::from_utf8(value.as_bytes()).ok()?.to_owned(),
            ),
            KeyAndValueRef::Binary(name, value) => (name.as_str(), binary_text(value)),
        };
        let kept = !NOT_PASSED_ON.contains(&name) && !name.starts_with(GRPC);
        kept.then(|| (name.to_owned(), value))
    });
    passed_on.collect()
}

/// Bytes that are text go as text, as from Go Layotto; others stay in base64, for a header field
/// of HTTP cannot hold them.
fn binary_text(value: &BinaryMetadataValue) -> String {
    let decoded = value
        .to_bytes()
        .ok()
        .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let printable = decoded.filter(|text| !text.chars().any(char::is_control));
    printable.unwrap_or_else(|| String::from_utf8_lossy(value.as_encoded_bytes()).into_owned())
}

/// Every value of a field is returned. Upstream returns the last alone, which loses cookies.
fn return_header(metadata: &mut MetadataMap, name: &str, value: String) {
    if NOT_RETURNED.contains(&name) || name.starts_with(GRPC) {
        return;
    }
    if let Ok(name) = name.parse::<BinaryMetadataKey>() {
        metadata.append_bin(name, BinaryMetadataValue::from_bytes(value.as_bytes()));
        return;
    }
    if let (Ok(name), Ok(value)) = (
        name.parse::<AsciiMetadataKey>(),
        AsciiMetadataValue::try_from(value.into_bytes()),
    ) {
        metadata.append(name, value);
    }
}

#[cfg(test)]
mod tests;
