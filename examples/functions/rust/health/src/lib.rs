//! A filter that runs in any Proxy-Wasm host: it asks the cluster `back` over gRPC whether it serves,
//! by the health checking protocol of gRPC, before it lets a request through; else the answer is 503.
//! A request with `x-wait` waits until the cluster serves.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel, Status};

const CLUSTER: &str = "back";
const SERVICE: &str = "grpc.health.v1.Health";
const PATIENCE: Duration = Duration::from_secs(1);

/// `HealthCheckRequest` about the server as a whole: the name of a service is left out.
const REQUEST: Option<&[u8]> = Some(&[]);
/// `HealthCheckResponse` whose field 1, the status, is SERVING.
const SERVING: &[u8] = &[0x08, 1];

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Health))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Health;

impl Health {
    /// One question, with one answer.
    fn check(&self) -> Result<(), Status> {
        self.dispatch_grpc_call(CLUSTER, SERVICE, "Check", vec![], REQUEST, PATIENCE)
            .map(drop)
    }

    /// One question, answered now and with each change.
    fn watch(&self) -> Result<(), Status> {
        let token = self.open_grpc_stream(CLUSTER, SERVICE, "Watch", vec![])?;
        self.send_grpc_stream_message(token, REQUEST, true);
        Ok(())
    }

    fn go_on(&self) {
        self.add_http_request_header("x-health", "serving");
        self.resume_http_request();
    }

    fn refuse(&self, why: &str) {
        let why = format!("the back end does not serve: {why}\n");
        self.send_http_response(503, vec![], Some(why.as_bytes()));
    }

    /// The reason why there was no answer.
    fn refuse_by_status(&self) {
        let (code, message) = self.get_grpc_status();
        let message = message.unwrap_or_default();
        log::info!("no answer of {SERVICE}: {code} {message}");
        self.refuse(&format!("status {code}"));
    }
}

fn serves(response: Option<Bytes>) -> bool {
    response.as_deref() == Some(SERVING)
}

impl Context for Health {
    fn on_grpc_call_response(&mut self, _: u32, status: u32, length: usize) {
        if status != 0 {
            self.refuse_by_status();
        } else if serves(self.get_grpc_call_response_body(0, length)) {
            self.go_on();
        } else {
            self.refuse("it says so");
        }
    }

    fn on_grpc_stream_message(&mut self, token: u32, length: usize) {
        if serves(self.get_grpc_stream_message(0, length)) {
            self.cancel_grpc_stream(token);
            self.go_on();
        }
    }

    fn on_grpc_stream_close(&mut self, _: u32, _: u32) {
        self.refuse_by_status();
    }
}

impl HttpContext for Health {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let asked = match self.get_http_request_header("x-wait") {
            Some(_) => self.watch(),
            None => self.check(),
        };
        if let Err(status) = asked {
            self.refuse(&format!("{status:?}"));
        }
        Action::Pause
    }
}
