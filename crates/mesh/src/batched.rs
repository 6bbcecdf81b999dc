//! Writes together what is ready together: an HTTP/2 connection is polled after the tasks that have
//! something for it, not between them.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

pin_project! {
    /// Lets all that is ready run before it polls the connection. Whoever sends on a stream wakes
    /// the connection, which the runtime would run next: every message would be a write of its own.
    pub(crate) struct Batched<C> {
        #[pin]
        connection: C,
        yielded: bool,
    }
}

impl<C> Batched<C> {
    /// Wraps a connection.
    pub(crate) fn new(connection: C) -> Self {
        Self {
            connection,
            yielded: false,
        }
    }

    /// The connection.
    pub(crate) fn inner(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.project().connection
    }
}

impl<C: Future> Future for Batched<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.project();
        *this.yielded = !*this.yielded;
        match *this.yielded {
            true => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            false => this.connection.poll(cx),
        }
    }
}
