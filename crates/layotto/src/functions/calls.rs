//! `proxy_http_call` and gRPC: requests of guests to clusters of the data plane, with the limits, pools and
//! health of these. Which clusters a guest may call, for how long and how often, is looked at before.

pub mod grpc;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header};
use http_body::Frame;
use http_body_util::{BodyExt, LengthLimitError, Limited, StreamBody};
use layotto_mesh::{
    body::Body,
    cluster::Cluster,
    drain,
    proxy::http::{Http, Settings},
    reply::Kind,
    router::{Action, Forward, Route},
};
use layotto_wasm::{
    Headers,
    grpc::SILENCE,
    host::{Failure, HttpCall, HttpReply},
};

use super::convert::{fields, put};
use crate::plane::Directory;

/// The longest body of a reply, or message of one, in bytes: a guest gets it whole.
const LONGEST: usize = 4 << 20;

/// The way to the clusters.
pub struct Calls {
    directory: Directory,
    http: Http,
    route: Arc<Route>,
    /// For streams of gRPC, whose server may have nothing to say for long.
    patient: Arc<Route>,
}

impl Calls {
    /// To the clusters of `directory`, as they are when a call begins.
    pub fn new(directory: Directory) -> Self {
        // Nothing is upgraded, so there is nothing that a drain would end.
        let (_, watch) = drain::channel();
        let mut patient = Forward::plain();
        patient.timeout = SILENCE;
        Self {
            directory,
            http: Http::new(Settings::default(), watch),
            route: Arc::new(Action::Forward(Forward::plain()).into()),
            patient: Arc::new(Action::Forward(patient).into()),
        }
    }

    /// For gRPC with this limit of its own, or none.
    fn route(&self, limit: Option<Duration>) -> &Arc<Route> {
        match limit {
            Some(_) => &self.route,
            None => &self.patient,
        }
    }

    /// Whether there is such a cluster.
    pub fn reach(&self, cluster: &str) -> bool {
        self.directory.clusters().get(cluster).is_some()
    }

    /// Sends a request, and waits for the whole reply. A cluster that cannot be reached answers with
    /// a status, as it does to everybody.
    pub async fn send(&self, call: HttpCall) -> Result<HttpReply, Failure> {
        let clusters = self.directory.clusters();
        let cluster: &Arc<Cluster> = clusters.get(&call.cluster).ok_or(Failure::Unknown)?;
        let request = request(call)?;
        let (head, body) = self
            .http
            .forward(request, &self.route, cluster)
            .await
            .into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => failed(format!("the reply is larger than {LONGEST} bytes")),
            false => failed(format!("the reply broke off: {error}")),
        })?;
        Ok(HttpReply {
            headers: with_status(head.status, &head.headers),
            trailers: body
                .trailers()
                .map(|trailers| fields(trailers).collect())
                .unwrap_or_default(),
            body: body.to_bytes(),
        })
    }
}

/// The head of a reply as guests see it.
fn with_status(status: StatusCode, headers: &HeaderMap) -> Headers {
    let status = Bytes::copy_from_slice(status.as_str().as_bytes());
    let first = (Bytes::from_static(b":status"), status);
    [first].into_iter().chain(fields(headers)).collect()
}

fn request(call: HttpCall) -> Result<Request<Body>, Failure> {
    let text = |name: &str| {
        let value = call.headers.get(name.as_bytes()).map(Bytes::as_ref);
        std::str::from_utf8(value.unwrap_or_default()).map_err(|_| failed(format!("{name} is no text")))
    };
    let path: Uri = text(":path")?.parse().map_err(|_| failed(":path is no path"))?;
    let mut request = Request::builder()
        .method(text(":method")?)
        .uri(path.path_and_query().map_or("/", |path| path.as_str()))
        .body(Body::empty())
        .map_err(|error| failed(error.to_string()))?;
    let authority = HeaderValue::from_str(text(":authority")?);
    let authority = authority.map_err(|_| failed(":authority is no header"))?;
    let headers = request.headers_mut();
    put(headers, &call.headers);
    headers.insert(header::HOST, authority);
    let mut trailers = HeaderMap::new();
    put(&mut trailers, &call.trailers);
    let is_grpc = Kind::of(headers) == Kind::Grpc;
    if is_grpc {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if !trailers.is_empty() && !headers.contains_key(header::TRAILER) {
        // Over HTTP/1.1 only trailers that were announced are sent.
        let names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
        let names = HeaderValue::from_str(&names.join(", "));
        headers.insert(header::TRAILER, names.expect("invariant: names are a header"));
    }
    *request.version_mut() = match is_grpc {
        true => Version::HTTP_2,
        false => Version::HTTP_11,
    };
    *request.body_mut() = match trailers.is_empty() {
        true => call.body.into(),
        false => {
            // Of no length that is known, or over HTTP/1.1 it would be sent without trailers.
            let frames = [Frame::data(call.body), Frame::trailers(trailers)];
            Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>))))
        }
    };
    Ok(request)
}

fn failed(text: impl Into<String>) -> Failure {
    Failure::Failed(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_waits_for_the_head_of_its_reply_as_long_as_it_may_be_silent() {
        let calls = Calls::new(Directory::default());
        let Action::Forward(forward) = &calls.route(None).action else {
            panic!("it is sent to a cluster");
        };
        assert_eq!(forward.timeout, SILENCE);
        let minute = Duration::from_secs(60);
        let Action::Forward(forward) = &calls.route(Some(minute)).action else {
            panic!("it is sent to a cluster");
        };
        assert_eq!(forward.timeout, minute);
    }
}
