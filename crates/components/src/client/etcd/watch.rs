//! Watches: the changes of a range of keys, from one revision on.

use futures::{StreamExt, stream};
use layotto_core::{Error, ErrorKind, Result};
use tonic::{Status, Streaming};

use super::{
    Client,
    failure::Failure,
    session::{Manner, Session},
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
        let mut has_new_token = !self.token.is_needed();
        loop {
            let session = self.link.session().await.map_err(Ended::Lost)?;
            let manner = Manner {
                token: self.token.get(&session).await.map_err(Ended::Lost)?,
                needs_leader: true,
            };
            let failure = match Watching::begin(&session, &manner, request.clone()).await {
                Ok((watching, first)) => return check(first).map(|_| watching),
                Err(failure) => failure,
            };
            // Some nodes say of a token that they do not know that it permits nothing.
            if !has_new_token && (failure.is_about_the_token() || failure.says_it_is_not_permitted()) {
                self.token.forget(manner.token.as_ref()).await;
                has_new_token = true;
                continue;
            }
            if failure.is_transient() && (self.link.nodes() > 1 || !failure.is_answer()) {
                self.link.leave(&session);
            }
            return Err(Ended::Lost(failure.into_error()));
        }
    }
}

impl Watching {
    async fn begin(
        session: &Session,
        manner: &Manner,
        request: WatchCreateRequest,
    ) -> Result<(Self, WatchResponse), Failure> {
        // Open until the watch is dropped: the node takes the end of the requests for its end.
        let requests = stream::iter([WatchRequest {
            create_request: Some(request),
        }])
        .chain(stream::pending());
        let answers = session.streaming(PATH, requests, manner).await?;
        let mut watching = Self { answers };
        watching.read().await.map(|first| (watching, first))
    }

    /// The next changes: all those of one revision or more, in order. None where the node only
    /// tells its revision.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, Ended> {
        let answer = self.read().await;
        check(answer.map_err(|failure| ended(failure.into_error()))?)
    }

    async fn read(&mut self) -> Result<WatchResponse, Failure> {
        let answer = self.answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("etcdserver: the watch ended"))?;
        match answer.canceled && answer.compact_revision == 0 {
            true => Err(Failure::of_cancellation(&answer.cancel_reason)),
            false => Ok(answer),
        }
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
    Ok(answer)
}
