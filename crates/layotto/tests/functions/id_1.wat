;; Asks function id_2 about the book that the request names, and answers what it says.
(module
  (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_invoke_service"
    (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 65536))
  (func (export "malloc") (param $size i32) (result i32)
    global.get $next
    (global.set $next (i32.add (global.get $next) (local.get $size))))
  (data (i32.const 100) "id_1")
  (data (i32.const 110) "id_2")
  (func (export "proxy_abi_version_0_2_0"))
  (func (export "_start"))
  (func (export "proxy_get_id")
    (drop (call $set (i32.const 8) (i32.const 0) (i32.const 0x7fffffff) (i32.const 100) (i32.const 4))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
    (drop (call $get (i32.const 0) (i32.const 0) (local.get $size) (i32.const 16) (i32.const 20)))
    ;; Behind "name=".
    (if (call $invoke (i32.const 110) (i32.const 4) (i32.const 0) (i32.const 0)
          (i32.add (i32.load (i32.const 16)) (i32.const 5)) (i32.sub (i32.load (i32.const 20)) (i32.const 5))
          (i32.const 24) (i32.const 28))
      (then unreachable))
    (drop (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.load (i32.const 24)) (i32.load (i32.const 28))))
    (i32.const 0)))
