//! The function `id_2`: says how many copies of a book the store counts.

use std::ptr::null_mut;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

/// What takes the id of a function, while the host asks for it.
const CALL_DATA: u32 = 8;
const STORE: &str = "state_demo";

// What the SDK does not have.
#[link(wasm_import_module = "env")]
extern "C" {
    fn proxy_set_buffer_bytes(buffer: u32, start: usize, size: usize, data: *const u8, length: usize) -> u32;
    fn proxy_get_state(
        store: *const u8,
        store_length: usize,
        key: *const u8,
        key_length: usize,
        value: *mut *mut u8,
        value_length: *mut usize,
    ) -> u32;
}

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

#[no_mangle]
pub extern "C" fn proxy_get_id() {
    let id = "id_2";
    unsafe { proxy_set_buffer_bytes(CALL_DATA, 0, id.len(), id.as_ptr(), id.len()) };
}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Inventory))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Inventory;

impl Context for Inventory {}

impl HttpContext for Inventory {
    fn on_http_request_body(&mut self, length: usize, _: bool) -> Action {
        let body = self.get_http_request_body(0, length).unwrap_or_default();
        let book = String::from_utf8_lossy(&body).into_owned();
        log::info!("asked for {book}");
        match state(STORE, &book) {
            Ok(count) => {
                let count = String::from_utf8_lossy(&count);
                let answer = format!("There are {count} inventories for {book}.");
                self.set_http_response_body(0, 0, answer.as_bytes());
                Action::Continue
            }
            Err(status) => {
                log::error!("{STORE} did not answer: status {status}");
                self.send_http_response(502, vec![], Some(b"the store did not answer"));
                Action::Pause
            }
        }
    }
}

/// Of a key that is not there: nothing.
fn state(store: &str, key: &str) -> Result<Vec<u8>, u32> {
    let (mut value, mut length) = (null_mut(), 0);
    let status = unsafe {
        proxy_get_state(
            store.as_ptr(),
            store.len(),
            key.as_ptr(),
            key.len(),
            &mut value,
            &mut length,
        )
    };
    match status {
        0 if value.is_null() => Ok(Vec::new()),
        // The host got the memory from this module's allocator: it is the module's now.
        0 => Ok(unsafe { Vec::from_raw_parts(value, length, length) }),
        status => Err(status),
    }
}
