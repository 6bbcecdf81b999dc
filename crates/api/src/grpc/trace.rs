//! Where tracing hooks into calls, and the trace id that calls to other services carry on.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Code;

/// Carries the id of a trace, in SOFATracer's format.
pub const TRACE_ID: HeaderName = HeaderName::from_static("rpc_trace_context.sofatraceid");
/// Carries the id of a span.
pub const SPAN_ID: HeaderName = HeaderName::from_static("rpc_trace_context.sofarpcid");

/// Told of every call when tracing is on.
pub trait Tracer: Send + Sync + 'static {
    /// A call of the method at `path` begins. `headers` always hold a trace id and a span id.
    fn begin(&self, path: &'static str, headers: &HeaderMap) -> Box<dyn Span>;
}

/// One call that is under way.
pub trait Span: Send + 'static {
    /// The call ended with `code`.
    fn end(self: Box<Self>, code: Code);
}

/// Makes trace ids: address, milliseconds, a count, process id.
pub(super) struct TraceIds {
    prefix: String,
    count: AtomicU32,
}

impl Default for TraceIds {
    fn default() -> Self {
        let prefix = Ipv4Addr::LOCALHOST
            .octets()
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        Self {
            prefix,
            count: AtomicU32::new(0),
        }
    }
}

impl TraceIds {
    fn next(&self) -> String {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let count = 1000 + self.count.fetch_add(1, Ordering::Relaxed) % 8000;
        format!("{}{millis}{count}{}", self.prefix, std::process::id())
    }

    /// Gives a request that has none a trace id, and the root's span id: InvokeService passes both on.
    pub(super) fn complete(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(TRACE_ID)
            && let Ok(id) = HeaderValue::try_from(self.next())
        {
            headers.insert(TRACE_ID, id);
        }
        if !headers.contains_key(SPAN_ID) {
            headers.insert(SPAN_ID, HeaderValue::from_static("0"));
        }
    }
}
