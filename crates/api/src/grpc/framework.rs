//! Errors that the gRPC framework raises before or between calls of a handler, in the words of
//! grpc-go, which clients of Go Layotto may match.

use http::HeaderMap;
use tonic::{Code, Status, metadata::GRPC_CONTENT_TYPE};

use super::methods;

/// A non-breaking space follows the colon: protobuf-go writes it so that nobody compares texts.
const MALFORMED: &str =
    "grpc: error unmarshalling request: proto:\u{a0}cannot parse invalid wire-format data";
const NOT_UTF8: &str = "grpc: error unmarshalling request: string field contains invalid UTF-8";

/// Rewords a status that tonic made while it received a message.
pub(super) fn reword(status: Status) -> Status {
    // Whoever attached details made the status on purpose: tonic never does.
    if !status.details().is_empty() {
        return status;
    }
    match (status.code(), status.message()) {
        (Code::Internal, text) if text.starts_with("failed to decode Protobuf message") => {
            let not_utf8 = text.contains("invalid string value");
            Status::internal(if not_utf8 { NOT_UTF8 } else { MALFORMED })
        }
        (Code::OutOfRange, text) => match sizes(text) {
            Some((found, limit)) => Status::resource_exhausted(format!(
                "grpc: received message larger than max ({found} vs. {limit})"
            )),
            None => status,
        },
        (Code::Unimplemented, text) => match text.strip_prefix("Content is compressed with `") {
            Some(rest) => Status::unimplemented(format!(
                "grpc: Decompressor is not installed for grpc-encoding \"{}\"",
                rest.split('`').next().unwrap_or_default()
            )),
            None => status,
        },
        _ => status,
    }
}

/// The two numbers of tonic's text about a message that is too long.
fn sizes(text: &str) -> Option<(u64, u64)> {
    let rest = text.strip_prefix("Error, decoded message length too large: found ")?;
    let (found, rest) = rest.split_once(" bytes, the limit is: ")?;
    Some((found.parse().ok()?, rest.strip_suffix(" bytes")?.parse().ok()?))
}

/// The same for an answer that is nothing but a status.
pub(super) fn reword_answer(headers: &mut HeaderMap) {
    if headers.contains_key("grpc-status-details-bin") {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let (code, text) = (status.code(), status.message().to_owned());
    let reworded = reword(status);
    if reworded.code() == code && reworded.message() == text {
        return;
    }
    // Adds to the headers there are, replacing status and message.
    if reworded.add_header(headers).is_err() {
        tracing::warn!(target: "layotto::api", "a status does not fit into headers");
    }
}

/// The answer to a path that names no method.
pub(super) fn unknown(path: &str) -> Status {
    match methods::split(path) {
        Some((service, method)) if methods::services().contains(&service) => {
            Status::unimplemented(format!("unknown method {method} for service {service}"))
        }
        Some((service, _)) => Status::unimplemented(format!("unknown service {service}")),
        None => Status::unimplemented(format!("malformed method name: {path:?}")),
    }
}

/// The answer to a request that is not gRPC at all. A browser can send such a request to any
/// address without asking first, but not one with the content type of gRPC.
pub(super) fn not_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(http::header::CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    !content_type.starts_with(GRPC_CONTENT_TYPE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_statuses_of_handlers_alone() {
        let ours = Status::with_details(
            Code::Internal,
            "failed to decode Protobuf message: from a component",
            bytes::Bytes::from_static(b"x"),
        );
        assert_eq!(
            reword(ours).message(),
            "failed to decode Protobuf message: from a component"
        );
        assert_eq!(reword(Status::out_of_range("elsewhere")).code(), Code::OutOfRange);
        assert_eq!(reword(Status::unimplemented("not here")).message(), "not here");
    }

    #[test]
    fn unknown_paths_are_worded_as_grpc_go_does() {
        for (path, text) in [
            ("/no.such.Service/X", "unknown service no.such.Service"),
            (
                "/spec.proto.runtime.v1.Runtime/Nope",
                "unknown method Nope for service spec.proto.runtime.v1.Runtime",
            ),
            (
                "//spec.proto.runtime.v1.Runtime/SayHello",
                "unknown service /spec.proto.runtime.v1.Runtime",
            ),
            ("/x", "malformed method name: \"/x\""),
        ] {
            assert_eq!(unknown(path).message(), text);
        }
    }
}
