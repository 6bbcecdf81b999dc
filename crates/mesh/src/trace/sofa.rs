//! SOFATracer's headers: a trace's id, and the place of a call in it such as `0.1.2`.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The trace's id over HTTP.
pub const TRACE_ID: HeaderName = HeaderName::from_static("sofa-traceid");
/// The call's place over HTTP.
pub const RPC_ID: HeaderName = HeaderName::from_static("sofa-rpcid");
/// The trace's id over RPC protocols, and among gRPC metadata.
pub const RPC_TRACE_ID: HeaderName = HeaderName::from_static("rpc_trace_context.sofatraceid");
/// The call's place over RPC protocols, and among gRPC metadata.
pub const RPC_RPC_ID: HeaderName = HeaderName::from_static("rpc_trace_context.sofarpcid");

/// Longer ones are not taken over.
const MAX_ID: usize = 128;

/// Where in which trace a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: String,
    /// The call's place: its parent's, a dot, and its number there; `0` is the root.
    pub rpc_id: String,
}

/// Makes traces' ids: address, milliseconds, a count, process id.
#[derive(Debug)]
pub struct TraceIds {
    address: String,
    count: AtomicU32,
}

impl TraceIds {
    /// Ids of a process on the machine with this address.
    pub fn new(address: Ipv4Addr) -> Self {
        Self {
            address: format!("{:08x}", u32::from(address)),
            count: AtomicU32::new(0),
        }
    }

    /// The place of a call whose request has `headers`: what they say, else a new trace's root.
    pub fn enter(&self, headers: &HeaderMap) -> Context {
        let id = |names: [HeaderName; 2]| names.into_iter().find_map(|name| plain_id(headers, &name));
        Context {
            trace_id: id([TRACE_ID, RPC_TRACE_ID]).unwrap_or_else(|| self.next()),
            rpc_id: id([RPC_ID, RPC_RPC_ID]).unwrap_or_else(|| "0".to_owned()),
        }
    }

    fn next(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = 1000 + self.count.fetch_add(1, Relaxed) % 8000;
        format!("{}{}{count}{}", self.address, now.as_millis(), std::process::id())
    }
}

impl Context {
    /// Writes what the next hop needs: it is the first call that this one makes. gRPC gets the
    /// metadata that its servers read, too.
    pub fn write(&self, headers: &mut HeaderMap, grpc: bool) {
        let rpc_id = format!("{}.1", self.rpc_id);
        let both = [
            (TRACE_ID, RPC_TRACE_ID, &self.trace_id),
            (RPC_ID, RPC_RPC_ID, &rpc_id),
        ];
        for (http, rpc, value) in both {
            let Ok(value) = HeaderValue::try_from(value) else {
                continue;
            };
            if grpc || headers.contains_key(&rpc) {
                headers.insert(rpc, value.clone());
            }
            headers.insert(http, value);
        }
    }
}

/// The id in a header, if it is safe to print and hand on: at most 128 letters, digits, `.`, `-`,
/// `_` and `:`.
pub fn plain_id(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    (plain && (1..=MAX_ID).contains(&text.len())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> TraceIds {
        TraceIds::new(Ipv4Addr::new(127, 0, 0, 1))
    }

    #[test]
    fn a_request_without_a_trace_begins_one() {
        let ids = ids();
        let (first, second) = (ids.enter(&HeaderMap::new()), ids.enter(&HeaderMap::new()));
        assert_eq!(first.rpc_id, "0");
        assert!(first.trace_id.starts_with("7f000001"));
        assert_ne!(first.trace_id, second.trace_id);
    }

    #[test]
    fn a_trace_goes_on_over_http_and_grpc() {
        for names in [[TRACE_ID, RPC_ID], [RPC_TRACE_ID, RPC_RPC_ID]] {
            let [trace, rpc] = names;
            let mut headers = HeaderMap::new();
            headers.insert(trace, HeaderValue::from_static("abc"));
            headers.insert(rpc, HeaderValue::from_static("0.3"));
            let context = ids().enter(&headers);
            assert_eq!(
                (context.trace_id.as_str(), context.rpc_id.as_str()),
                ("abc", "0.3")
            );
            let mut next = HeaderMap::new();
            context.write(&mut next, true);
            assert_eq!(
                (&next[TRACE_ID], &next[RPC_ID]),
                (&"abc".parse().unwrap(), &"0.3.1".parse().unwrap())
            );
            assert_eq!(next[RPC_RPC_ID], "0.3.1");
            let mut http = HeaderMap::new();
            context.write(&mut http, false);
            assert!(!http.contains_key(RPC_TRACE_ID));
        }
    }

    #[test]
    fn an_id_that_could_forge_a_record_is_not_taken_over() {
        for bad in ["", "a b", "a,b", "x\"y"] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACE_ID, HeaderValue::from_static(bad));
            assert_ne!(ids().enter(&headers).trace_id, bad);
        }
    }
}
