//! The end of an HTTP/2 connection whose client wears the server out.

use std::{error::Error, pin::Pin, time::Duration};

use h2::Reason;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{Info, Open};
use crate::{batched::Corked, drain};

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, section 6.8). It names the greatest stream there can be,
/// as any may have had an effect.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0b";

/// How long a client is not listened to before it is sent away: what it awaits may still be
/// answered, and it cannot come again as fast.
const PENALTY: Duration = Duration::from_secs(3);

/// How long the client may take to let the last word through.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends a connection over `wire` that is not read any more.
pub(super) async fn send_away<C: Future, S: AsyncWrite + Unpin>(
    connection: Pin<&mut C>,
    wire: Corked<S>,
    drain: &drain::Watch,
) {
    tokio::select! {
        biased;
        _ = connection => {}
        () = sleep(PENALTY) => say_goodbye(wire).await,
        () = drain.cut() => {}
    }
}

/// Tells the client why the connection ends, unless it takes no bytes: the word must not get into
/// the middle of a frame. The connection must not be polled any more.
async fn say_goodbye<S: AsyncWrite + Unpin>(mut wire: Corked<S>) {
    if !wire.is_clear() {
        return;
    }
    let said = async {
        wire.write_all(GOAWAY).await?;
        wire.shutdown().await
    };
    if let Ok(Err(error)) = timeout(PATIENCE, said).await {
        tracing::debug!(%error, "the client is gone before it could be sent away");
    }
}

/// Whether a connection ended because its client asked for too much, by the rules of h2.
pub(super) fn is_flood(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| !cause.is_remote() && cause.reason() == Some(Reason::ENHANCE_YOUR_CALM))
}

/// Counts a connection that was cut, and says so from time to time: one who attacks connects again.
pub(super) fn tell(open: &Open, info: &Info) {
    if open.counts().count_cut() {
        tracing::warn!(
            listener = info.listener(),
            remote = %info.remote(),
            cut = open.counts().cut(),
            "connection cut, as its client wears the server out; others are only counted for a while"
        );
    }
}
