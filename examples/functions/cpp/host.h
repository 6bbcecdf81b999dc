// What a function uses of the host: imports of the module `env`, and the exports that every function
// has.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name))) extern "C"
#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

IMPORT(proxy_log) uint32_t proxy_log(uint32_t level, const char *text, size_t length);
IMPORT(proxy_get_buffer_bytes)
uint32_t proxy_get_buffer_bytes(uint32_t buffer, uint32_t start, size_t most, char **data, size_t *length);
IMPORT(proxy_set_buffer_bytes)
uint32_t proxy_set_buffer_bytes(uint32_t buffer, uint32_t start, size_t size, const char *data, size_t length);
IMPORT(proxy_send_local_response)
uint32_t proxy_send_local_response(uint32_t status, const char *details, size_t details_length, const char *body,
                                   size_t body_length, const char *headers, size_t headers_length,
                                   uint32_t grpc_status);
IMPORT(proxy_invoke_service)
uint32_t proxy_invoke_service(const char *id, size_t id_length, const char *method, size_t method_length,
                              const char *parameter, size_t parameter_length, char **result, size_t *length);
IMPORT(proxy_get_state)
uint32_t proxy_get_state(const char *store, size_t store_length, const char *key, size_t key_length, char **value,
                         size_t *length);

enum Buffer : uint32_t { RequestBody = 0, ResponseBody = 1, CallData = 8 };
enum Level : uint32_t { Info = 2, Error = 4 };
enum Action : uint32_t { Continue = 0, Pause = 1 };

// The host asks for memory where it has something to give; it is the function's from then on.
EXPORT(proxy_on_memory_allocate) void *proxy_on_memory_allocate(size_t size) { return malloc(size); }
EXPORT(proxy_abi_version_0_2_1) void proxy_abi_version_0_2_1() {}

// What the host gave, as a string.
inline std::string taken(char *data, size_t length) {
  std::string text(data, data == nullptr ? 0 : length);
  free(data);
  return text;
}

inline void log(Level level, std::string_view text) { proxy_log(level, text.data(), text.size()); }

inline void set(Buffer buffer, std::string_view text) {
  proxy_set_buffer_bytes(buffer, 0, text.size(), text.data(), text.size());
}

inline std::string request_body(size_t length) {
  char *data = nullptr;
  size_t got = 0;
  return proxy_get_buffer_bytes(RequestBody, 0, length, &data, &got) == 0 ? taken(data, got) : std::string();
}

inline Action refuse(uint32_t status, std::string_view body) {
  proxy_send_local_response(status, nullptr, 0, body.data(), body.size(), nullptr, 0, UINT32_MAX);
  return Pause;
}
