// What a function uses of the host: imports of the module `env`, and the exports that every function
// has.

// @ts-ignore: decorator
@external("env", "proxy_log")
declare function proxy_log(level: u32, text: usize, length: usize): u32;
// @ts-ignore: decorator
@external("env", "proxy_get_buffer_bytes")
declare function proxy_get_buffer_bytes(buffer: u32, start: u32, most: usize, data: usize, length: usize): u32;
// @ts-ignore: decorator
@external("env", "proxy_set_buffer_bytes")
declare function proxy_set_buffer_bytes(buffer: u32, start: u32, size: usize, data: usize, length: usize): u32;
// @ts-ignore: decorator
@external("env", "proxy_send_local_response")
declare function proxy_send_local_response(
  status: u32, details: usize, detailsLength: usize, body: usize, bodyLength: usize, headers: usize,
  headersLength: usize, grpcStatus: u32): u32;
// @ts-ignore: decorator
@external("env", "proxy_invoke_service")
declare function proxy_invoke_service(
  id: usize, idLength: usize, method: usize, methodLength: usize, parameter: usize, parameterLength: usize,
  result: usize, resultLength: usize): u32;
// @ts-ignore: decorator
@external("env", "proxy_get_state")
declare function proxy_get_state(
  store: usize, storeLength: usize, key: usize, keyLength: usize, value: usize, valueLength: usize): u32;

export const INFO: u32 = 2;
export const ERROR: u32 = 4;
export const CONTINUE: u32 = 0;
export const PAUSE: u32 = 1;

const REQUEST_BODY: u32 = 0;
const RESPONSE_BODY: u32 = 1;
const CALL_DATA: u32 = 8;

// Where the host puts a pointer and a length.
const out: usize = memory.data(8);

// The host asks for memory where it has something to give; it is the function's from then on. The
// garbage collector does not know of it.
export function proxy_on_memory_allocate(size: usize): usize {
  return heap.alloc(size);
}

export function proxy_abi_version_0_2_1(): void {}

// What the host gave, as a string.
function taken(): string {
  const data = load<usize>(out);
  const text = data == 0 ? "" : String.UTF8.decodeUnsafe(data, load<usize>(out, 4));
  if (data != 0) heap.free(data);
  return text;
}

function pointer(bytes: ArrayBuffer): usize {
  return changetype<usize>(bytes);
}

function set(buffer: u32, text: string): void {
  const bytes = String.UTF8.encode(text);
  proxy_set_buffer_bytes(buffer, 0, bytes.byteLength, pointer(bytes), bytes.byteLength);
}

export function sayId(id: string): void {
  set(CALL_DATA, id);
}

export function answer(text: string): u32 {
  set(RESPONSE_BODY, text);
  return CONTINUE;
}

export function log(level: u32, text: string): void {
  const bytes = String.UTF8.encode(text);
  proxy_log(level, pointer(bytes), bytes.byteLength);
}

export function requestBody(length: usize): string {
  return proxy_get_buffer_bytes(REQUEST_BODY, 0, length, out, out + 4) == 0 ? taken() : "";
}

export function refuse(status: u32, text: string): u32 {
  const body = String.UTF8.encode(text);
  proxy_send_local_response(status, 0, 0, pointer(body), body.byteLength, 0, 0, u32.MAX_VALUE);
  return PAUSE;
}

// `null` where the function does not answer.
export function invoke(id: string, parameter: string): string | null {
  const to = String.UTF8.encode(id);
  const given = String.UTF8.encode(parameter);
  const status = proxy_invoke_service(
    pointer(to), to.byteLength, 0, 0, pointer(given), given.byteLength, out, out + 4);
  return status == 0 ? taken() : null;
}

// Of a key that is not there: an empty text; `null` where the store does not answer.
export function state(store: string, key: string): string | null {
  const from = String.UTF8.encode(store);
  const what = String.UTF8.encode(key);
  const status = proxy_get_state(
    pointer(from), from.byteLength, pointer(what), what.byteLength, out, out + 4);
  return status == 0 ? taken() : null;
}
