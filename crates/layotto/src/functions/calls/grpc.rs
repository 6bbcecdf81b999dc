//! Calls and streams of gRPC: a request over HTTP/2 whose body is what the guest sends, and what comes
//! back, told in the order in which gRPC has it.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header, uri::Authority};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use layotto_mesh::{body::Body, cluster::Cluster, filter::Response, reply::Code};
use layotto_wasm::{
    Headers,
    grpc::{Call, Closed, Event},
};

use super::{
    super::{
        convert::{code_of, fields, put},
        frame::{Frames, Wrong, pieces},
    },
    Calls, LONGEST, with_status,
};

/// The authority of clusters whose names are none.
const AUTHORITY: &str = "grpc";

impl Calls {
    /// Begins a call. It goes on while what comes is asked for; dropping that resets it. A message of
    /// 4 MiB is the longest that comes.
    pub fn grpc(&self, call: Call) -> BoxStream<'static, Event> {
        let (http, route) = (self.http.clone(), self.route(call.timeout).clone());
        let cluster: Option<Arc<Cluster>> = self.directory.clusters().get(&call.cluster).cloned();
        let begun = async move {
            let Some(cluster) = cluster else {
                return ends(Code::Unavailable, "the cluster is gone");
            };
            match request(call) {
                Some(request) => replies(http.forward(request, &route, &cluster).await),
                None => ends(Code::Internal, "what is asked for is no request"),
            }
        };
        stream::once(begun).flatten().boxed()
    }
}

fn request(call: Call) -> Option<Request<Body>> {
    let mut request = Request::post(format!("/{}/{}", call.service, call.method))
        .version(Version::HTTP_2)
        .body(Body::empty())
        .ok()?;
    let headers = request.headers_mut();
    put(headers, &call.metadata);
    // What makes it gRPC is not the guest's to say.
    let named = Some(call.cluster.as_str()).filter(|name| Authority::try_from(*name).is_ok());
    headers.insert(
        header::HOST,
        HeaderValue::from_str(named.unwrap_or(AUTHORITY)).ok()?,
    );
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.remove("grpc-encoding");
    headers.remove("grpc-accept-encoding");
    match call.timeout {
        Some(limit) => headers.insert("grpc-timeout", timeout(limit)),
        None => headers.remove("grpc-timeout"),
    };
    // None is longer than a guest may have memory, of which a pointer of 32 bits says all.
    let pieces = call
        .messages
        .flat_map(|message| stream::iter(pieces(message).into_iter().flatten()));
    let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    *request.body_mut() = Body::new(StreamBody::new(frames.boxed()));
    Some(request)
}

/// As gRPC writes it, in eight digits at most.
pub fn timeout(limit: Duration) -> HeaderValue {
    let millis = limit.as_millis().min(99_999_999);
    HeaderValue::from_str(&format!("{millis}m")).expect("invariant: digits are a header")
}

/// What a call that brought nothing tells.
fn ends(code: Code, text: &str) -> BoxStream<'static, Event> {
    stream::iter(nothing(closed(code, text))).boxed()
}

fn nothing(closed: Closed) -> [Event; 3] {
    [
        Event::Initial(Headers::default()),
        Event::Trailing(Headers::default()),
        Event::Closed(closed),
    ]
}

fn closed(code: Code, text: impl Into<String>) -> Closed {
    Closed {
        status: code as u32,
        message: text.into(),
    }
}

/// What a reply tells.
fn replies(response: Response) -> BoxStream<'static, Event> {
    let (head, body) = response.into_parts();
    // A reply that has its status in the head has nothing else.
    if let Some(closed) = status(&head.headers) {
        let [initial, _, end] = nothing(closed);
        let trailing = Event::Trailing(fields(&head.headers).collect());
        return stream::iter([initial, trailing, end]).boxed();
    }
    if head.status != StatusCode::OK {
        let text = format!("the reply has HTTP status {}", head.status.as_u16());
        return ends(code_of(head.status.as_u16().into()), &text);
    }
    let initial = with_status(head.status, &head.headers);
    let reply = Reply {
        body,
        frames: Frames::default(),
        told: VecDeque::from([Event::Initial(initial)]),
        over: false,
    };
    stream::unfold(reply, Reply::next).boxed()
}

/// The body of a reply while it comes.
struct Reply {
    body: Body,
    frames: Frames,
    told: VecDeque<Event>,
    over: bool,
}

impl Reply {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some((event, self));
            }
            if self.over {
                return None;
            }
            match self.frames.next(LONGEST) {
                Ok(Some(message)) => self.told.push_back(Event::Message(message)),
                Ok(None) => self.more().await,
                Err(wrong) => {
                    let code = match wrong {
                        Wrong::Compressed => Code::Internal,
                        Wrong::TooLong(_) => Code::ResourceExhausted,
                    };
                    self.ends(Headers::default(), closed(code, wrong.to_string()));
                }
            }
        }
    }

    async fn more(&mut self) {
        match self.body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => self.frames.push(&piece),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.trailers(&trailers);
                    }
                }
            },
            Some(Err(error)) => {
                let text = format!("the reply broke off: {error}");
                self.ends(Headers::default(), closed(Code::Unavailable, text));
            }
            None => self.ends(
                Headers::default(),
                closed(Code::Unknown, "the reply has no status"),
            ),
        }
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        let end = match status(trailers) {
            None => closed(Code::Unknown, "the reply has no status"),
            Some(Closed { status: 0, .. }) if !self.frames.is_empty() => {
                closed(Code::Internal, "the last message of the reply is not whole")
            }
            Some(status) => status,
        };
        self.ends(fields(trailers).collect(), end);
    }

    fn ends(&mut self, trailing: Headers, closed: Closed) {
        self.over = true;
        self.told
            .extend([Event::Trailing(trailing), Event::Closed(closed)]);
    }
}

/// What a head or trailers say of how a call ended.
fn status(headers: &HeaderMap) -> Option<Closed> {
    let status = headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let message = headers.get("grpc-message").map(HeaderValue::as_bytes);
    let message = percent_encoding::percent_decode(message.unwrap_or_default());
    Some(Closed {
        status: status.unwrap_or(Code::Unknown as u32),
        message: message.decode_utf8_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reply with this body and these trailers tells, in short.
    async fn told(pieces: &[&'static [u8]], trailers: &[(&'static str, &str)]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.append(*name, value.parse().unwrap());
        }
        let mut frames: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, Infallible>(Frame::data(bytes::Bytes::from_static(piece))))
            .collect();
        if !map.is_empty() {
            frames.push(Ok(Frame::trailers(map)));
        }
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        replies(Response::new(body)).map(short).collect().await
    }

    fn short(event: Event) -> String {
        match event {
            Event::Initial(list) => format!("initial {}", list.0.len()),
            Event::Message(message) => String::from_utf8(message.to_vec()).unwrap(),
            Event::Trailing(list) => format!("trailing {}", list.0.len()),
            Event::Closed(closed) => format!("{} {}", closed.status, closed.message),
        }
    }

    #[tokio::test]
    async fn messages_come_before_trailers_and_status() {
        let ok = told(&[b"\0\0\0\0\x01a\0\0", b"\0\0\x01b"], &[("grpc-status", "0")]).await;
        assert_eq!(ok, ["initial 1", "a", "b", "trailing 1", "0 "]);
        let refused = [("grpc-status", "7"), ("grpc-message", "not%20for you")];
        assert_eq!(
            told(&[], &refused).await,
            ["initial 1", "trailing 2", "7 not for you"]
        );
    }

    #[tokio::test]
    async fn a_reply_that_does_not_end_as_grpc_does_has_an_end_all_the_same() {
        let none = "2 the reply has no status";
        assert_eq!(told(&[], &[]).await, ["initial 1", "trailing 0", none]);
        assert_eq!(told(&[], &[("x", "y")]).await, ["initial 1", "trailing 1", none]);
        let cut = told(&[b"\0\0\0\0\x02a"], &[("grpc-status", "0")]).await;
        assert_eq!(cut[2], "13 the last message of the reply is not whole");
        let large = told(&[b"\0\x7f\0\0\0"], &[]).await;
        assert_eq!(large[2], "8 a message of the reply is larger than 4194304 bytes");
        let compressed = told(&[b"\x01\0\0\0\0"], &[]).await;
        assert_eq!(compressed[2], "13 a message of the reply is compressed");
    }

    #[tokio::test]
    async fn a_reply_of_a_head_alone_tells_its_status() {
        let reply = |status: u16, headers: &[(&str, &str)]| {
            let mut response = http::Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            replies(response.body(Body::empty()).unwrap()).map(short)
        };
        let refused: Vec<_> = reply(200, &[("grpc-status", "14")]).collect().await;
        assert_eq!(refused, ["initial 0", "trailing 1", "14 "]);
        for (status, code) in [(400, 13), (401, 16), (403, 7), (404, 12), (503, 14), (500, 2)] {
            let told: Vec<_> = reply(status, &[]).collect().await;
            assert!(told[2].starts_with(&format!("{code} ")), "{status}: {told:?}");
        }
    }
}
