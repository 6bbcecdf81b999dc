//! Values that come up in the course of an exchange.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Datelike, Local, Timelike};

use super::Late;
use crate::exchange::Exchange;

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The status of its reply, 499 if the client left before there was one.
    pub status: u16,
    /// From its beginning.
    pub took: Duration,
}

impl Late {
    /// The value; while the exchange goes on, `end` is `None`. `None`: there is none, or none yet.
    pub fn value(self, exchange: &Exchange, end: Option<End>) -> Option<String> {
        let facts = exchange.facts();
        let took = end.map_or_else(|| exchange.elapsed(), |end| end.took);
        Some(match self {
            Self::TraceId => facts.trace_id.as_deref()?.to_owned(),
            Self::UpstreamConnectionId => facts.upstream_connection?.to_string(),
            Self::RequestReceivedDuration => duration(facts.request_received?),
            Self::ResponseReceivedDuration => duration(facts.response_received?),
            Self::RequestFinishedDuration => duration(end?.took),
            Self::ProcessTimeDuration => duration(processing(
                facts.request_received,
                facts.response_received,
                end?.took,
            )),
            Self::BytesSent => facts.bytes_sent.to_string(),
            Self::BytesReceived => facts.bytes_received.to_string(),
            Self::ResponseCode => end?.status.to_string(),
            Self::Duration => duration(took),
            Self::ResponseFlag => format!("{:#x}", facts.flags.0),
            Self::UpstreamLocalAddress => facts.upstream_local?.to_string(),
            Self::UpstreamHost => facts.upstream_host.as_deref()?.to_owned(),
            Self::UpstreamCluster => facts.cluster.as_deref()?.to_owned(),
            Self::UpstreamTransportFailureReason => facts.upstream_failure.as_deref()?.to_owned(),
        })
    }
}

/// The part of `took` that was not spent waiting for an upstream: from the request's last byte to
/// the head of its reply.
pub(crate) fn processing(sent: Option<Duration>, answered: Option<Duration>, took: Duration) -> Duration {
    let waited = answered.map(|answered| answered.saturating_sub(sent.unwrap_or_default()));
    took.saturating_sub(waited.unwrap_or_default())
}

/// With a unit, as Go writes it: `1.5ms`.
fn duration(duration: Duration) -> String {
    format!("{duration:?}")
}

/// Writes local time as upstream's logs do: `2006/01/02 15:04:05.000`.
pub fn write_time(out: &mut String, time: SystemTime) {
    let time = DateTime::<Local>::from(time);
    let (date, clock) = (time.date_naive(), time.time());
    let written = write!(
        out,
        "{:04}/{:02}/{:02} {:02}:{:02}:{:02}.{:03}",
        date.year(),
        date.month(),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.nanosecond() / 1_000_000 % 1000,
    );
    written.expect("invariant: a text takes any writing");
}
