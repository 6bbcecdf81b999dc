//! A filter that runs in any Proxy-Wasm host: a request without the right key is answered 401, any
//! other goes on with a header that says who let it through.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

const KEY: &str = "open-sesame";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Auth))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Auth;

impl Context for Auth {}

impl HttpContext for Auth {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        if self.get_http_request_header("x-api-key").as_deref() == Some(KEY) {
            self.set_http_request_header("x-api-key", None);
            self.add_http_request_header("x-authenticated-by", "auth.wasm");
            return Action::Continue;
        }
        self.send_http_response(
            401,
            vec![("www-authenticate", "Key")],
            Some(b"x-api-key is missing or wrong\n"),
        );
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.add_http_response_header("x-filtered-by", "auth.wasm");
        Action::Continue
    }
}
