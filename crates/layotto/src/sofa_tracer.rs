//! The `SOFATracer` driver: one line on standard output for each call, of the API or proxied, as
//! upstream prints it. Calls never wait for it: lines that find no room are dropped and counted.

use std::{borrow::Cow, fmt::Write, net::Ipv4Addr, path::Path, sync::Arc, time::Instant};

use chrono::{DateTime, Local};
use http::{HeaderMap, request};
use layotto_api::grpc::{SPAN_ID, Span, TRACE_ID, Tracer};
use layotto_mesh::{
    access_log::{Files, Sink},
    exchange::Exchange,
    reply,
    trace::{
        self,
        sofa::{TraceIds, plain_id},
    },
};
use tonic::Code;

const TIME: &str = "%Y-%m-%d %H:%M:%S%.3f";

/// Prints a line when a call ends.
pub struct SofaTracer {
    app_id: Arc<str>,
    lines: Sink,
    trace_ids: TraceIds,
}

impl SofaTracer {
    /// The tracer of one application, which prints by way of `files`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(app_id: &str, files: &Files) -> std::io::Result<Self> {
        Ok(Self {
            app_id: app_id.into(),
            lines: files.open(Path::new("stdout"))?,
            trace_ids: TraceIds::new(Ipv4Addr::LOCALHOST),
        })
    }
}

impl Tracer for SofaTracer {
    fn begin(&self, path: &'static str, headers: &HeaderMap) -> Box<dyn Span> {
        let id = |name| plain_id(headers, &name).unwrap_or_default();
        Box::new(Call {
            app_id: Arc::clone(&self.app_id),
            lines: self.lines.clone(),
            method: path.into(),
            trace_id: id(TRACE_ID),
            span_id: id(SPAN_ID),
            begun: Local::now(),
            clock: Instant::now(),
        })
    }
}

/// Proxied calls.
impl trace::Tracer for SofaTracer {
    fn begin(&self, head: &mut request::Parts, exchange: &Exchange) -> Option<Box<dyn trace::Span>> {
        let context = self.trace_ids.enter(&head.headers);
        let grpc = reply::Kind::of(&head.headers) == reply::Kind::Grpc;
        context.write(&mut head.headers, grpc);
        exchange.facts().trace_id = Some(context.trace_id.as_str().into());
        Some(Box::new(Call {
            app_id: Arc::clone(&self.app_id),
            lines: self.lines.clone(),
            method: plain_path(head.uri.path()).into(),
            trace_id: context.trace_id,
            span_id: context.rpc_id,
            begun: Local::now(),
            clock: Instant::now(),
        }))
    }
}

/// The path without what would end the field, or could forge a line or move a terminal.
fn plain_path(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if byte != b',' => plain.push(byte.into()),
            _ => write!(plain, "%{byte:02X}").expect("invariant: a text takes any writing"),
        }
    }
    plain
}

struct Call {
    app_id: Arc<str>,
    lines: Sink,
    method: Cow<'static, str>,
    trace_id: String,
    span_id: String,
    begun: DateTime<Local>,
    clock: Instant,
}

impl Call {
    fn print(&self, ok: bool) {
        self.lines.write(self.line(ok, Local::now()));
    }

    fn line(&self, ok: bool, ended: DateTime<Local>) -> String {
        let millis = self.clock.elapsed().as_millis();
        // Tag "result" of upstream: 0 is success.
        let result = u8::from(!ok);
        format!(
            "{now} AppName: {app}, Method: {method}, TraceId: {trace}, SpanId: {span}, ParentSpanId: {span}, \
             Time: [{begun} -> {now}], processTime: {millis}ms, result: {result}, extraInfo: \n",
            now = ended.format(TIME),
            app = self.app_id,
            method = self.method,
            trace = self.trace_id,
            span = self.span_id,
            begun = self.begun.format(TIME),
        )
    }
}

impl Span for Call {
    fn end(self: Box<Self>, code: Code) {
        self.print(code == Code::Ok);
    }
}

impl trace::Span for Call {
    fn end(self: Box<Self>, ended: &trace::Ended<'_>) {
        self.print(ended.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer() -> SofaTracer {
        SofaTracer::new("app1", &Files::default()).unwrap()
    }

    #[tokio::test]
    async fn a_line_holds_what_upstream_prints() {
        let begun = Local::now();
        let call = Call {
            app_id: "app1".into(),
            lines: tracer().lines,
            method: "/s/M".into(),
            trace_id: "t".into(),
            span_id: "0.1".into(),
            begun,
            clock: Instant::now(),
        };
        let line = call.line(false, begun);
        for part in [
            "AppName: app1",
            "Method: /s/M",
            "TraceId: t",
            "SpanId: 0.1",
            "processTime: 0ms",
            "result: 1",
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert!(line.ends_with('\n'));
    }

    #[tokio::test]
    async fn a_proxied_call_joins_the_trace_and_hands_it_on() {
        let tracer = tracer();
        let exchange = Exchange::begin("web".into(), None);
        let mut head = http::Request::new(()).into_parts().0;
        head.headers
            .insert("SOFA-TraceId", http::HeaderValue::from_static("t9"));
        head.headers
            .insert("SOFA-RpcId", http::HeaderValue::from_static("0.2"));
        let span = trace::Tracer::begin(&tracer, &mut head, &exchange);
        assert!(span.is_some());
        assert_eq!(head.headers["SOFA-TraceId"], "t9");
        assert_eq!(head.headers["SOFA-RpcId"], "0.2.1");
        assert_eq!(exchange.facts().trace_id.as_deref(), Some("t9"));
    }

    #[tokio::test]
    async fn ids_and_paths_cannot_forge_a_field_or_a_line() {
        let mut headers = HeaderMap::new();
        let forged = http::HeaderValue::from_static("1, result: 0");
        headers.insert(TRACE_ID, forged.clone());
        headers.insert(SPAN_ID, forged);
        // No more than that it does not matter: the line is not reachable through the trait.
        drop(Tracer::begin(&tracer(), "/a.B/C", &headers));
        assert_eq!(plain_id(&headers, &TRACE_ID), None);
        assert_eq!(plain_path("/a,b\u{9b}2J\u{2028}"), "/a%2Cb%C2%9B2J%E2%80%A8");
        assert_eq!(plain_path("/a.B/C-_~%20"), "/a.B/C-_~%20");
    }
}
