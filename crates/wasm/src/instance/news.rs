//! Telling a guest of what it asked of the network.

use tokio::time::{Instant, sleep_until};

use super::{Instance, size};
use crate::{
    calls::{News, What},
    grpc::Event,
    host::{Failure, HttpReply},
    trap::Trap,
};

/// gRPC's UNAVAILABLE: what `proxy_get_status` says of a request that failed.
const UNAVAILABLE: u32 = 14;

impl Instance {
    /// Waits for something to tell, and tells it; `false`: nothing is under way.
    pub(crate) async fn next_news(&mut self) -> Result<bool, Trap> {
        self.store.data_mut().clock.pause();
        let next = self.store.data_mut().calls.next().await;
        self.store.data_mut().clock.resume();
        self.hears_if(next).await
    }

    /// Likewise, but waits no longer than `until`; `false` after that, too. The guest has its time to
    /// hear of what came before.
    pub(super) async fn next_news_before(&mut self, until: Instant) -> Result<bool, Trap> {
        self.store.data_mut().clock.pause();
        // In this order: what is there at once would be taken for ever.
        let next = tokio::select! {
            biased;
            () = sleep_until(until) => None,
            next = self.store.data_mut().calls.next() => next,
        };
        self.store.data_mut().clock.resume();
        self.hears_if(next).await
    }

    async fn hears_if(&mut self, news: Option<News>) -> Result<bool, Trap> {
        match news {
            Some(news) => self.hears(news).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Tells the guest.
    pub(crate) async fn hears(&mut self, news: News) -> Result<(), Trap> {
        let News {
            context,
            token,
            what,
            last,
        } = news;
        match what {
            What::Http(result) => self.replied(context, token, result).await?,
            What::Grpc(event) => self.came(context, token, event, last).await?,
        }
        if last {
            // Not before: while it is told of the end, its token is still good.
            self.store.data_mut().calls.end(token);
        }
        Ok(())
    }

    async fn replied(
        &mut self,
        context: u32,
        token: u32,
        result: Result<HttpReply, Failure>,
    ) -> Result<(), Trap> {
        let guest = self.store.data_mut();
        guest.status = match &result {
            Ok(_) => (0, String::new()),
            Err(failure) => (UNAVAILABLE, failure.to_string()),
        };
        // A call that failed has no headers: that is how guests know.
        let reply = result.unwrap_or_default();
        let (headers, body, trailers) = (reply.headers.0.len(), reply.body.len(), reply.trailers.0.len());
        guest.reply = Some(reply);
        let arguments = [context, token, size(headers), size(body), size(trailers)];
        let told = self
            .call_in(context, "proxy_on_http_call_response", &arguments)
            .await;
        self.store.data_mut().reply = None;
        told.map(drop)
    }

    /// `last`: nothing follows.
    async fn came(&mut self, context: u32, token: u32, event: Event, last: bool) -> Result<(), Trap> {
        let guest = self.store.data_mut();
        let (callback, number) = match &event {
            Event::Initial(headers) => ("proxy_on_grpc_receive_initial_metadata", size(headers.0.len())),
            Event::Message(message) => ("proxy_on_grpc_receive", size(message.len())),
            Event::Trailing(trailers) => ("proxy_on_grpc_receive_trailing_metadata", size(trailers.0.len())),
            Event::Closed(closed) => ("proxy_on_grpc_close", closed.status),
        };
        match &event {
            Event::Closed(closed) => guest.status = (closed.status, closed.message.clone()),
            _ if last => guest.status = (0, String::new()),
            _ => {}
        }
        guest.event = Some(event);
        let told = self.call_in(context, callback, &[context, token, number]).await;
        self.store.data_mut().event = None;
        told.map(drop)
    }
}
