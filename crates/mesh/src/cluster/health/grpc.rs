//! Whether a host, or a service of it, says that it serves: `grpc.health.v1.Health/Check`.
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::TokioExecutor;

use super::probe::{Failure, authority, connect, drive};
use crate::{
    Body, ConfigError,
    cluster::{Host, config::GrpcCheck},
};

/// The method that is called.
const PATH: &str = "/grpc.health.v1.Health/Check";

/// The largest reply that is read, in bytes.
const MAX_REPLY: usize = 1024;

/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;

#[derive(Debug)]
pub(super) struct Check {
    /// The request with its frame.
    message: Bytes,
    authority: Option<String>,
}

impl Check {
    pub(super) fn new(config: &GrpcCheck) -> Result<Self, ConfigError> {
        if !config.authority.is_empty() && config.authority.parse::<http::uri::Authority>().is_err() {
            return Err(ConfigError::new(
                "check_config.grpc_check_config.authority",
                format!("{:?} is no authority such as \"host:80\"", config.authority),
            ));
        }
        Ok(Self {
            message: frame(&config.service),
            authority: Some(config.authority.clone()).filter(|authority| !authority.is_empty()),
        })
    }

    pub(super) async fn ask(&self, host: &Host) -> Result<(), Failure> {
        let request = self.request(host)?;
        let stream = connect(host, None).await?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        drive(connection, async move {
            read(sender.send_request(request).await?).await
        })
        .await
    }

    fn request(&self, host: &Host) -> Result<Request<Body>, Failure> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.clone().unwrap_or_else(|| authority(host)))
            .path_and_query(PathAndQuery::from_static(PATH))
            .build()
            .map_err(|_| Failure::Network("the host's name is no authority".into()))?;
        let mut request = Request::new(Body::from(self.message.clone()));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static("layotto-health-check"),
        );
        Ok(request)
    }
}

async fn read(response: Response<Incoming>) -> Result<(), Failure> {
    if response.status() != 200 {
        return Err(Failure::Reply(format!("status {}", response.status())));
    }
    // A reply without a message has its status among the headers.
    check_status(response.headers())?;
    let body = Limited::new(response.into_body(), MAX_REPLY).collect().await;
    let body = body.map_err(|error| Failure::Network(error.to_string()))?;
    check_status(body.trailers().unwrap_or(&HeaderMap::new()))?;
    match serving_status(&body.to_bytes()) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(Failure::Reply(format!("serving status {other}"))),
        None => Err(Failure::Reply("no health check response".into())),
    }
}

fn check_status(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(status) => Err(Failure::Reply(format!(
            "gRPC status {}",
            String::from_utf8_lossy(status)
        ))),
    }
}

/// `HealthCheckRequest { service }` with the prefix of a gRPC message.
fn frame(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// `status` of a framed `HealthCheckResponse`, which has no other field.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (prefix, message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 || length as usize != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, status] if *status < 0x80 => Some((*status).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_the_service_in_a_frame() {
        assert_eq!(&frame("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&frame("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = frame(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 303);
    }

    #[test]
    fn the_status_is_read_from_whole_frames_only() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 2]), Some(2));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        for wrong in [
            &[][..],
            &[0, 0],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 2, 8, 0x81],
        ] {
            assert_eq!(serving_status(wrong), None, "{wrong:?}");
        }
    }
}
