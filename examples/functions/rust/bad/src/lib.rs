//! Everything that a function must not do: the body of the request, or its query, says what.

use std::hint::black_box;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

#[link(wasm_import_module = "env")]
extern "C" {
    fn proxy_set_buffer_bytes(buffer: u32, start: usize, size: usize, data: usize, length: usize) -> u32;
}

const RESPONSE_BODY: u32 = 1;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Bad))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Bad;

impl Context for Bad {}

impl HttpContext for Bad {
    fn on_http_request_body(&mut self, length: usize, _: bool) -> Action {
        let body = self.get_http_request_body(0, length).unwrap_or_default();
        match body.as_slice() {
            b"loop" => run_for_ever(),
            b"memory" => take_all_memory(),
            b"pointers" => self.set_http_response_body(0, 0, wrong_pointers().as_bytes()),
            b"recursion" => drop(black_box(call_itself(black_box(1)))),
            b"trap" => trap(),
            _ => self.set_http_response_body(0, 0, b"loop, memory, pointers, recursion or trap?"),
        }
        Action::Continue
    }
}

#[inline(never)]
fn run_for_ever() {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns + 1);
    }
}

#[inline(never)]
fn take_all_memory() {
    let mut taken = Vec::new();
    loop {
        taken.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// The host refuses every one of these; the function goes on.
fn wrong_pointers() -> String {
    let end = core::arch::wasm32::memory_size(0) << 16;
    let statuses = [(end, 1), (end - 1, 2), (usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX)]
        .map(|(data, length)| unsafe { proxy_set_buffer_bytes(RESPONSE_BODY, 0, length, data, length) });
    format!("statuses {statuses:?}")
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn call_itself(depth: u64) -> u64 {
    let local = black_box([depth; 16]);
    local[3] + call_itself(depth + 1)
}

#[inline(never)]
fn trap() {
    panic!("this function fails on purpose");
}
