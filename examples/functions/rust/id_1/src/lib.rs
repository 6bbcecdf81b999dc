//! The function `id_1`: asks the function `id_2` about the book that the request names.

use std::ptr::{null, null_mut};

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

/// What takes the id of a function, while the host asks for it.
const CALL_DATA: u32 = 8;

// What the SDK does not have.
#[link(wasm_import_module = "env")]
extern "C" {
    fn proxy_set_buffer_bytes(buffer: u32, start: usize, size: usize, data: *const u8, length: usize) -> u32;
    fn proxy_invoke_service(
        id: *const u8,
        id_length: usize,
        method: *const u8,
        method_length: usize,
        parameter: *const u8,
        parameter_length: usize,
        result: *mut *mut u8,
        result_length: *mut usize,
    ) -> u32;
}

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

#[no_mangle]
pub extern "C" fn proxy_get_id() {
    let id = "id_1";
    unsafe { proxy_set_buffer_bytes(CALL_DATA, 0, id.len(), id.as_ptr(), id.len()) };
}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Ask))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Ask;

impl Context for Ask {}

impl HttpContext for Ask {
    // A request without a body has its query in the place of it: name=book1.
    fn on_http_request_body(&mut self, length: usize, _: bool) -> Action {
        let body = self.get_http_request_body(0, length).unwrap_or_default();
        let Some(name) = body.strip_prefix(b"name=") else {
            self.send_http_response(400, vec![], Some(b"name=BOOK is missing"));
            return Action::Pause;
        };
        match invoke("id_2", "", name) {
            Ok(answer) => {
                self.set_http_response_body(0, 0, &answer);
                Action::Continue
            }
            Err(status) => {
                log::error!("id_2 did not answer: status {status}");
                self.send_http_response(502, vec![], Some(b"id_2 did not answer"));
                Action::Pause
            }
        }
    }
}

fn invoke(id: &str, method: &str, parameter: &[u8]) -> Result<Vec<u8>, u32> {
    let (mut result, mut length) = (null_mut(), 0);
    let pointer = |bytes: &[u8]| if bytes.is_empty() { null() } else { bytes.as_ptr() };
    let status = unsafe {
        proxy_invoke_service(
            id.as_ptr(),
            id.len(),
            pointer(method.as_bytes()),
            method.len(),
            pointer(parameter),
            parameter.len(),
            &mut result,
            &mut length,
        )
    };
    match status {
        0 if result.is_null() => Ok(Vec::new()),
        // The host got the memory from this module's allocator: it is the module's now.
        0 => Ok(unsafe { Vec::from_raw_parts(result, length, length) }),
        status => Err(status),
    }
}
