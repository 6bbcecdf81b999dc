// The function `id_1`: asks the function `id_2` about the book that the request names.
#include "host.h"

EXPORT(proxy_get_id) void proxy_get_id() { set(CallData, "id_1"); }

// A request without a body has its query in the place of it: name=book1.
EXPORT(proxy_on_request_body) Action proxy_on_request_body(uint32_t, size_t length, uint32_t) {
  const std::string body = request_body(length);
  const std::string_view prefix = "name=";
  if (body.compare(0, prefix.size(), prefix) != 0) {
    return refuse(400, "name=BOOK is missing");
  }
  const std::string book = body.substr(prefix.size());
  const std::string_view id = "id_2";
  char *result = nullptr;
  size_t got = 0;
  if (proxy_invoke_service(id.data(), id.size(), nullptr, 0, book.data(), book.size(), &result, &got) != 0) {
    log(Error, "id_2 did not answer");
    return refuse(502, "id_2 did not answer");
  }
  set(ResponseBody, taken(result, got));
  return Continue;
}
