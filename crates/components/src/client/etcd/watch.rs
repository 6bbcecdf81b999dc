//! Watches: the changes of a range of keys, from one revision on.

use futures::{StreamExt, stream};
use layotto_core::{Error, ErrorKind, Result};
use tonic::Streaming;

use super::{
    Client,
    failure::Failure,
    session::Manner,
    wire::{WatchCreateRequest, WatchRequest, WatchResponse},
};

const PATH: &str = "/etcdserverpb.Watch/Watch";

/// A watch that has begun; dropping it ends it.
pub(crate) struct Watching {
    answers: Streaming<WatchResponse>,
}

/// Why a watch ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The connection or the node did; another watch may go on from the next revision.
    Lost(Error),
    /// The revisions to go on from are gone, or have too many changes for one answer.
    Compacted,
}

impl Client {
    /// Begins a watch.
    pub(crate) async fn watch(&self, request: WatchCreateRequest) -> Result<Watching, Ended> {
        let session = self.link.session().await.map_err(Ended::Lost)?;
        let token = self.token.get(&session).await.map_err(Ended::Lost)?;
        let manner = Manner {
            token: token.clone(),
            needs_leader: true,
        };
        // Open until the watch is dropped: the node takes the end of the requests for its end.
        let requests = stream::iter([WatchRequest {
            create_request: Some(request),
        }])
        .chain(stream::pending());
        let begun = async {
            let answers = session.streaming(PATH, requests, &manner).await?;
            let mut watching = Watching { answers };
            watching.read().await.map(|first| (watching, first))
        };
        match begun.await {
            Ok((watching, first)) => check(first).map(|_| watching),
            Err(failure) => {
                if failure.is_about_the_token() {
                    self.token.forget(token.as_ref()).await;
                } else if failure.is_transient() && (self.link.nodes() > 1 || !failure.is_answer()) {
                    self.link.leave(&session);
                }
                Err(Ended::Lost(failure.into_error()))
            }
        }
    }
}

impl Watching {
    /// The next changes: all those of one revision or more, in order. None where the node only
    /// tells its revision.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, Ended> {
        let answer = self.read().await;
        check(answer.map_err(|failure| ended(failure.into_error()))?)
    }

    async fn read(&mut self) -> Result<WatchResponse, Failure> {
        let answer = self.answers.message().await?;
        answer.ok_or_else(|| tonic::Status::unavailable("etcdserver: the watch ended").into())
    }
}

fn ended(error: Error) -> Ended {
    match error.kind() {
        ErrorKind::ResourceExhausted => Ended::Compacted,
        _ => Ended::Lost(error),
    }
}

fn check(answer: WatchResponse) -> Result<WatchResponse, Ended> {
    if answer.compact_revision != 0 {
        return Err(Ended::Compacted);
    }
    if answer.canceled {
        let text = format!("etcd: the watch was cancelled: {}", answer.cancel_reason);
        return Err(Ended::Lost(Error::unavailable(text)));
    }
    Ok(answer)
}
