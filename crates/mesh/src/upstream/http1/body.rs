//! The body of an HTTP/1.1 reply that was not all there with its head.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use super::link::{Lease, poll_incoming};

/// Reads the reply and drives its connection; gives the connection back when it is through.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    drive: Drive,
}

#[derive(Debug)]
enum Drive {
    Here(Lease),
    /// A task does, since the request is not sent to its end.
    Beside(JoinHandle<()>),
    /// Nobody: the connection is back in its pool, or closed.
    Done,
}

impl Body {
    pub(super) fn driving(incoming: Incoming, lease: Lease) -> Self {
        Self {
            incoming,
            drive: Drive::Here(lease),
        }
    }

    pub(super) fn beside(incoming: Incoming, task: JoinHandle<()>) -> Self {
        Self {
            incoming,
            drive: Drive::Beside(task),
        }
    }

    /// The end of the driving: a connection that is free goes back, any other is closed.
    fn leave(&mut self) {
        match std::mem::replace(&mut self.drive, Drive::Done) {
            Drive::Here(lease) if lease.is_free() => lease.park(),
            Drive::Here(_) | Drive::Done => {}
            Drive::Beside(task) => task.abort(),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Drive::Here(lease) = &mut this.drive else {
            return poll_incoming(&mut this.incoming, cx);
        };
        let (incoming, mut closed) = (&mut this.incoming, false);
        let frame = lease.poll(cx, &mut closed, |cx| poll_incoming(incoming, cx));
        let over = match &frame {
            Poll::Ready(end @ (None | Some(Err(_)))) => {
                lease.over(end.is_some());
                true
            }
            _ => false,
        };
        if closed || over || lease.is_free() {
            this.leave();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Drive::Here(lease) = &mut self.drive
            && self.incoming.is_end_stream()
        {
            lease.settle();
        }
        self.leave();
    }
}
