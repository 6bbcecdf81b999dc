// The function `id_2`: says how many copies of a book the store counts.
#include "host.h"

EXPORT(proxy_get_id) void proxy_get_id() { set(CallData, "id_2"); }

EXPORT(proxy_on_request_body) Action proxy_on_request_body(uint32_t, size_t length, uint32_t) {
  const std::string book = request_body(length);
  log(Info, "asked for " + book);
  const std::string_view store = "state_demo";
  char *value = nullptr;
  size_t got = 0;
  if (proxy_get_state(store.data(), store.size(), book.data(), book.size(), &value, &got) != 0) {
    log(Error, "the store did not answer");
    return refuse(502, "the store did not answer");
  }
  set(ResponseBody, "There are " + taken(value, got) + " inventories for " + book + ".");
  return Continue;
}
