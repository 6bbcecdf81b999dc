//! Guests in text, for the functions and filters of these tests.

use std::{fmt::Write, path::Path};

/// Puts the module of a text into a folder.
pub fn build(folder: &Path, name: &str, text: &str) {
    let new = folder.join("new");
    std::fs::write(
        &new,
        wat::parse_str(text).unwrap_or_else(|error| panic!("{error}")),
    )
    .unwrap();
    std::fs::rename(new, folder.join(format!("{name}.wasm"))).unwrap();
}

/// The host functions that guests here use, with the number of their parameters.
const IMPORTS: [(&str, usize); 18] = [
    ("log", 3),
    ("get_buffer_bytes", 5),
    ("set_buffer_bytes", 5),
    ("get_header_map_value", 5),
    ("add_header_map_value", 5),
    ("replace_header_map_value", 5),
    ("remove_header_map_value", 3),
    ("send_local_response", 8),
    ("continue_stream", 1),
    ("http_call", 10),
    ("grpc_call", 12),
    ("grpc_stream", 9),
    ("grpc_send", 4),
    ("grpc_cancel", 1),
    ("get_status", 3),
    ("invoke_service", 8),
    ("get_property", 4),
    ("define_metric", 4),
];

/// The callbacks that answer nothing.
const SILENT: [&str; 8] = [
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_log",
    "proxy_on_delete",
    "proxy_on_tick",
];

/// A guest in the making: texts at addresses, and functions that use them.
#[derive(Default)]
pub struct Guest {
    data: String,
    functions: String,
    next: usize,
}

impl Guest {
    /// One that does nothing.
    pub fn new() -> Self {
        Self {
            next: 1024,
            ..Self::default()
        }
    }

    /// Keeps bytes; the answer is address and length, as two arguments.
    pub fn bytes(&mut self, bytes: &[u8]) -> String {
        let at = self.next;
        let escaped = bytes.iter().fold(String::new(), |mut out, byte| {
            write!(out, "\\{byte:02x}").unwrap();
            out
        });
        writeln!(self.data, "(data (i32.const {at}) \"{escaped}\")").unwrap();
        self.next += bytes.len();
        format!("(i32.const {at}) (i32.const {})", bytes.len())
    }

    /// Keeps a text.
    pub fn text(&mut self, text: &str) -> String {
        self.bytes(text.as_bytes())
    }

    /// Keeps a list of headers.
    pub fn headers(&mut self, headers: &[(&str, &str)]) -> String {
        let mut bytes = u32::try_from(headers.len()).unwrap().to_le_bytes().to_vec();
        for (name, value) in headers {
            for text in [name, value] {
                bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            }
        }
        for (name, value) in headers {
            for text in [name, value] {
                bytes.extend(text.as_bytes());
                bytes.push(0);
            }
        }
        self.bytes(&bytes)
    }

    /// An exported function that takes so many numbers, `$0` the first of them, and answers what
    /// `body` leaves.
    pub fn on(mut self, name: &str, parameters: usize, body: &str) -> Self {
        let parameters = (0..parameters).fold(String::new(), |mut out, at| {
            write!(out, "(param ${at} i32)").unwrap();
            out
        });
        let answers = match SILENT.contains(&name) {
            true => "",
            false => "(result i32)",
        };
        writeln!(
            self.functions,
            "(func (export {name:?}) {parameters} {answers} (local $a i32) {body})"
        )
        .unwrap();
        self
    }

    /// The module. `$P` and `$N` are where the host puts what it gives; each gift has its own place.
    pub fn module(&self) -> String {
        let imports = IMPORTS.iter().fold(String::new(), |mut out, (name, count)| {
            let parameters = "i32 ".repeat(*count);
            writeln!(
                out,
                "(import \"env\" \"proxy_{name}\" (func ${name} (param {parameters}) (result i32)))"
            )
            .unwrap();
            out
        });
        format!(
            r#"(module {imports}
            (import "env" "proxy_increment_metric" (func $increment_metric (param i32 i64) (result i32)))
            (import "env" "proxy_record_metric" (func $record_metric (param i32 i64) (result i32)))
            (memory (export "memory") 4)
            (global $next (mut i32) (i32.const 65536))
            (func (export "proxy_on_memory_allocate") (param $n i32) (result i32)
                global.get $next
                global.get $next local.get $n i32.add i32.const 7 i32.add i32.const -8 i32.and global.set $next
                (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
                    (then (drop (memory.grow (i32.const 64))))))
            (func (export "proxy_on_context_create") (param i32 i32)
                (global.set $next (i32.const 65536)))
            {} {})"#,
            self.data, self.functions
        )
    }
}

/// Puts what the host gave, at 16 and 20, into a buffer from its start on; it replaces what is there.
pub fn give(buffer: u32) -> String {
    format!(
        "(drop (call $set_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 0x7fffffff)
            (i32.load (i32.const 16)) (i32.load (i32.const 20))))"
    )
}

/// Adds a text of the guest's to the end of a buffer.
pub fn append(buffer: u32, text: &str) -> String {
    format!(
        "(drop (call $set_buffer_bytes (i32.const {buffer}) (i32.const 0x7fffffff) (i32.const 0) {text}))"
    )
}

/// Adds what the host gave, at 16 and 20, to the end of a buffer.
pub fn append_given(buffer: u32) -> String {
    append(buffer, "(i32.load (i32.const 16)) (i32.load (i32.const 20))")
}

/// Replaces a buffer by a text of the guest's.
pub fn set(buffer: u32, text: &str) -> String {
    format!(
        "(drop (call $set_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 0x7fffffff) {text}))"
    )
}
