//! The `SOFATracer` driver: one line on standard output for each call, of the API or proxied, as
//! upstream prints it.

use std::{
    borrow::Cow,
    io::{self, Write},
    net::Ipv4Addr,
    sync::Arc,
    time::Instant,
};

use chrono::{DateTime, Local};
use http::{HeaderMap, request};
use layotto_api::grpc::{SPAN_ID, Span, TRACE_ID, Tracer};
use layotto_mesh::{
    exchange::Exchange,
    reply,
    trace::{self, sofa::TraceIds},
};
use tonic::Code;

const TIME: &str = "%Y-%m-%d %H:%M:%S%.3f";

/// Prints a line when a call ends.
pub struct SofaTracer {
    app_id: Arc<str>,
    trace_ids: TraceIds,
}

impl SofaTracer {
    /// The tracer of one application.
    pub fn new(app_id: &str) -> Self {
        Self {
            app_id: app_id.into(),
            trace_ids: TraceIds::new(Ipv4Addr::LOCALHOST),
        }
    }
}

impl Tracer for SofaTracer {
    fn begin(&self, path: &'static str, headers: &HeaderMap) -> Box<dyn Span> {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        Box::new(Call {
            app_id: Arc::clone(&self.app_id),
            method: path.into(),
            trace_id: text(TRACE_ID),
            span_id: text(SPAN_ID),
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
        // A comma would end the field.
        let method = head.uri.path().replace(',', "%2C");
        Some(Box::new(Call {
            app_id: Arc::clone(&self.app_id),
            method: method.into(),
            trace_id: context.trace_id,
            span_id: context.rpc_id,
            begun: Local::now(),
            clock: Instant::now(),
        }))
    }
}

struct Call {
    app_id: Arc<str>,
    method: Cow<'static, str>,
    trace_id: String,
    span_id: String,
    begun: DateTime<Local>,
    clock: Instant,
}

impl Call {
    fn print(&self, ok: bool) {
        let line = self.line(ok, Local::now());
        // A closed standard output must not fail calls.
        drop(io::stdout().lock().write_all(line.as_bytes()));
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

    #[test]
    fn a_line_holds_what_upstream_prints() {
        let begun = Local::now();
        let call = Call {
            app_id: "app1".into(),
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

    #[test]
    fn a_proxied_call_joins_the_trace_and_hands_it_on() {
        let tracer = SofaTracer::new("app1");
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
}
