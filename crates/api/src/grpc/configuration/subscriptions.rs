//! SubscribeConfiguration: one stream of changes for all subscriptions that its client asked for.
//!
//! Nothing is read ahead: while the client does not read, its requests and the changes wait where
//! they come from, in bounded channels. What is being opened goes on, so that no store waits for a
//! client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    Stream, StreamExt,
    stream::{BoxStream, FuturesUnordered, SelectAll},
};
use layotto_core::{
    Error, ErrorKind, Result,
    configuration::{Item, Selector},
};
use layotto_proto::runtime::v1::{SubscribeConfigurationRequest, SubscribeConfigurationResponse};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};

use super::to_wire;
use crate::{
    Runtime,
    grpc::framework,
    ops::configuration::{self, Watch},
    status::from_error,
};

/// The most subscriptions of one stream.
const LIMIT: usize = 1024;

type Answer = Result<SubscribeConfigurationResponse, Status>;

pub(in crate::grpc) fn subscribe(
    runtime: &Arc<Runtime>,
    request: Request<Streaming<SubscribeConfigurationRequest>>,
) -> Response<BoxStream<'static, Answer>> {
    let subscriptions = Subscriptions {
        runtime: Arc::clone(runtime),
        requests: request.into_inner(),
        opening: FuturesUnordered::new(),
        open: SelectAll::new(),
    };
    let answers = futures::stream::unfold(Some(subscriptions), |subscriptions| async {
        let mut subscriptions = subscriptions?;
        match subscriptions.next().await {
            Ok(Some(change)) => Some((Ok(change), Some(subscriptions))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    });
    Response::new(answers.boxed())
}

struct Subscriptions {
    runtime: Arc<Runtime>,
    requests: Streaming<SubscribeConfigurationRequest>,
    opening: FuturesUnordered<AbortOnDropHandle<Result<Changes>>>,
    open: SelectAll<Changes>,
}

impl Subscriptions {
    /// The next change; `None` where the client or the process wants no more.
    async fn next(&mut self) -> Result<Option<SubscribeConfigurationResponse>, Status> {
        let shutdown = self.runtime.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(None),
                request = self.requests.message() => match request.map_err(framework::reword)? {
                    Some(request) => self.add(request)?,
                    None => return Ok(None),
                },
                Some(opened) = self.opening.next() => {
                    let opened = opened.unwrap_or_else(|_| Err(Error::internal("a subscription was not opened")));
                    self.open.push(opened.map_err(|error| from_error(&error))?);
                }
                Some(change) = self.open.next() => return change.map(Some),
            }
        }
    }

    fn add(&mut self, request: SubscribeConfigurationRequest) -> Result<(), Status> {
        if self.opening.len() + self.open.len() >= LIMIT {
            let text = format!("a stream takes at most {LIMIT} subscriptions");
            return Err(from_error(&Error::new(ErrorKind::ResourceExhausted, text)));
        }
        let runtime = Arc::clone(&self.runtime);
        let opening = tokio::spawn(open(runtime, request));
        self.opening.push(AbortOnDropHandle::new(opening));
        Ok(())
    }
}

async fn open(runtime: Arc<Runtime>, request: SubscribeConfigurationRequest) -> Result<Changes> {
    let SubscribeConfigurationRequest {
        store_name,
        app_id,
        group,
        label,
        keys,
        metadata,
    } = request;
    let selector = Selector {
        app_id: app_id.clone(),
        group,
        label,
        keys,
        metadata,
    };
    let watch = configuration::subscribe(&runtime, &store_name, selector).await?;
    Ok(Changes {
        store_name,
        app_id,
        watch,
        ended: false,
    })
}

/// The changes of one subscription.
struct Changes {
    store_name: String,
    app_id: String,
    watch: Watch,
    ended: bool,
}

impl Stream for Changes {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.watch.changes.poll_recv(cx).map(|items| {
            // A subscription that its store ends must not look like one without changes.
            self.ended = items.is_none();
            Some(items.map(|items| self.answer(items)).ok_or_else(|| self.lost()))
        })
    }
}

impl Changes {
    fn answer(&self, items: Vec<Item>) -> SubscribeConfigurationResponse {
        SubscribeConfigurationResponse {
            store_name: self.store_name.clone(),
            app_id: self.app_id.clone(),
            items: items.into_iter().map(to_wire).collect(),
        }
    }

    fn lost(&self) -> Status {
        let text = format!("configure store [{}] ended the subscription", self.store_name);
        from_error(&Error::unavailable(text))
    }
}
