//! Connections to one address: a bounded number, each carrying one call at a time.

use std::{
    io, mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use layotto_core::{Error, ErrorKind, Result};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
};
use tokio_util::task::TaskTracker;

use crate::os_text::os_text;

/// A connection that can carry a call.
pub(super) type Connection = http1::SendRequest<Full<Bytes>>;

/// The connections to one address.
#[derive(Debug)]
pub(super) struct Pool {
    address: String,
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
    tasks: TaskTracker,
}

impl Pool {
    /// At most `size` connections to `address`, driven by tasks of `tasks`. None is made yet.
    pub(super) fn new(address: &str, size: usize, tasks: TaskTracker) -> Self {
        Self {
            address: address.to_owned(),
            places: Semaphore::new(size.min(Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
            tasks,
        }
    }

    /// Waits for the right to use a connection.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>> {
        let place = self.places.acquire().await;
        place.map_err(|error| Error::unavailable("the component is closed").with_source(error))
    }

    /// A connection that was used before and is still good.
    pub(super) async fn reuse(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle().pop()?;
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    /// A new connection.
    pub(super) async fn dial(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|error| self.refused(error))?;
        stream.set_nodelay(true).map_err(|error| self.refused(error))?;
        let handshake = http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(stream));
        let (connection, driver) = handshake
            .await
            .map_err(|error| Error::unavailable("the connection failed at once").with_source(error))?;
        // Ends when the connection is dropped here or closed by the other side.
        self.tasks.spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
            }
        });
        Ok(connection)
    }

    fn refused(&self, error: io::Error) -> Error {
        let text = format!("dial tcp {}: connect: {}", self.address, os_text(&error));
        Error::new(ErrorKind::Unavailable, text).with_source(error)
    }

    /// Takes a connection back whose call is over.
    pub(super) fn keep(&self, connection: Connection) {
        // The list is locked first: `close` empties it after it closed the places.
        let mut idle = self.idle();
        if !self.places.is_closed() && !connection.is_closed() {
            idle.push(connection);
        }
    }

    /// Ends the idle connections, and the others after their call.
    pub(super) fn close(&self) {
        self.places.close();
        drop(mem::take(&mut *self.idle()));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
