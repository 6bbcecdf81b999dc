//! The `SOFATracer` driver: one line on standard output for each call, as upstream prints it.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Instant,
};

use chrono::{DateTime, Local};
use http::HeaderMap;
use layotto_api::grpc::{SPAN_ID, Span, TRACE_ID, Tracer};
use tonic::Code;

const TIME: &str = "%Y-%m-%d %H:%M:%S%.3f";

/// Prints a line when a call ends.
pub struct SofaTracer {
    app_id: Arc<str>,
}

impl SofaTracer {
    /// The tracer of one application.
    pub fn new(app_id: &str) -> Self {
        Self {
            app_id: app_id.into(),
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
            method: path,
            trace_id: text(TRACE_ID),
            span_id: text(SPAN_ID),
            begun: Local::now(),
            clock: Instant::now(),
        })
    }
}

struct Call {
    app_id: Arc<str>,
    method: &'static str,
    trace_id: String,
    span_id: String,
    begun: DateTime<Local>,
    clock: Instant,
}

impl Call {
    fn line(&self, code: Code, ended: DateTime<Local>) -> String {
        let millis = self.clock.elapsed().as_millis();
        // Tag "result" of upstream: 0 is success.
        let result = u8::from(code != Code::Ok);
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
        let line = self.line(code, Local::now());
        // A closed standard output must not fail calls.
        drop(io::stdout().lock().write_all(line.as_bytes()));
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
            method: "/s/M",
            trace_id: "t".into(),
            span_id: "0.1".into(),
            begun,
            clock: Instant::now(),
        };
        let line = call.line(Code::NotFound, begun);
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
}
