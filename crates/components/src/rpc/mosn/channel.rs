//! The channel `http`: HTTP/1.1 to one address, or to a listener of the process without a socket.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use layotto_core::{
    Context, Error, ErrorKind, Result,
    rpc::{Inside, Request, Response, is_address},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    ChannelConfig, SIZE, message,
    pool::{Connection, Pool},
};
use crate::os_text::os_text;

/// The largest response body.
const LARGEST: usize = 64 << 20;

/// The longest time for a call; beyond it the clock cannot count.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The channel `http`.
#[derive(Debug)]
pub(super) enum HttpChannel {
    /// To a listener of this process, by a call.
    Inside(Listener),
    /// To an address, over connections.
    Dialled(Dialled),
}

/// A listener of this process.
#[derive(Debug)]
pub(super) struct Listener {
    name: String,
    inside: Inside,
    places: Semaphore,
}

/// An address and the connections to it.
#[derive(Debug)]
pub(super) struct Dialled {
    pool: Pool,
}

impl HttpChannel {
    pub(super) fn new(config: &ChannelConfig, cx: &Context) -> Self {
        let size = if config.size == 0 { SIZE } else { config.size };
        match is_address(&config.listener) {
            true => Self::Dialled(Dialled {
                pool: Pool::new(&config.listener, size, cx.tasks.clone()),
            }),
            false => Self::Inside(Listener {
                name: config.listener.clone(),
                inside: cx.inside.clone(),
                places: Semaphore::new(size.min(Semaphore::MAX_PERMITS)),
            }),
        }
    }

    /// Makes one call within the request's time.
    pub(super) async fn call(&self, request: Request) -> Result<Response> {
        let deadline = Instant::now() + request.timeout.min(LONGEST);
        let message = message::encode(&request)?;
        let late = |text: &'static str| move |_| Error::new(ErrorKind::Timeout, text);
        match self {
            Self::Inside(listener) => {
                let _place = timeout_at(deadline, listener.places.acquire())
                    .await
                    .map_err(late("connection pool timeout"))?
                    .map_err(|error| Error::unavailable("the component is closed").with_source(error))?;
                timeout_at(deadline, listener.exchange(message))
                    .await
                    .map_err(late("timeout"))?
            }
            Self::Dialled(dialled) => {
                let _place = timeout_at(deadline, dialled.pool.place())
                    .await
                    .map_err(late("connection pool timeout"))??;
                timeout_at(deadline, dialled.exchange(message.map(Full::new)))
                    .await
                    .map_err(late("timeout"))?
            }
        }
    }

    /// Ends the idle connections, and the others after their call.
    pub(super) fn close(&self) {
        match self {
            Self::Inside(listener) => listener.places.close(),
            Self::Dialled(dialled) => dialled.pool.close(),
        }
    }
}

impl Listener {
    async fn exchange(&self, message: http::Request<Bytes>) -> Result<Response> {
        let reply = self.inside.call(&self.name, message, LARGEST).await?;
        let (head, body) = reply.into_parts();
        message::decode(&head, body)
    }
}

impl Dialled {
    async fn exchange(&self, message: http::Request<Full<Bytes>>) -> Result<Response> {
        let (connection, response) = self.send(message).await?;
        let (head, body) = response.into_parts();
        let body = read(body).await?;
        self.pool.keep(connection);
        message::decode(&head, body)
    }

    async fn send(
        &self,
        mut message: http::Request<Full<Bytes>>,
    ) -> Result<(Connection, http::Response<Incoming>)> {
        while let Some(mut connection) = self.pool.reuse().await {
            let again = message.clone();
            match connection.try_send_request(message).await {
                Ok(response) => return Ok((connection, response)),
                // Closed by the other side just now: nothing was sent, or it may be sent twice.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => message = unsent,
                    None if failed.error().is_incomplete_message() && again.method().is_safe() => {
                        message = again;
                    }
                    None => return Err(failure(failed.into_error())),
                },
            }
        }
        let mut connection = self.pool.dial().await?;
        let response = connection.send_request(message).await.map_err(failure)?;
        Ok((connection, response))
    }
}

async fn read(body: Incoming) -> Result<Bytes> {
    match Limited::new(body, LARGEST).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => failure(*error),
            Err(error) if error.is::<LengthLimitError>() => {
                let text = format!("the response is larger than {LARGEST} bytes");
                Error::new(ErrorKind::ResourceExhausted, text)
            }
            Err(error) => Error::internal("the response cannot be read").with_source(error),
        }),
    }
}

fn failure(error: hyper::Error) -> Error {
    let system = error.source().and_then(|source| source.downcast_ref());
    let text = match system {
        _ if error.is_incomplete_message() => "EOF".to_owned(),
        Some(system) => os_text(system),
        None => error.to_string(),
    };
    Error::new(ErrorKind::Unavailable, text).with_source(error)
}
