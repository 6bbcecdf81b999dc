// The function `id_1`: asks the function `id_2` about the book that the request names.

import { ERROR, answer, invoke, log, refuse, requestBody, sayId } from "./host";
export { proxy_abi_version_0_2_1, proxy_on_memory_allocate } from "./host";

export function proxy_get_id(): void {
  sayId("id_1");
}

// A request without a body has its query in the place of it: name=book1.
export function proxy_on_request_body(context: u32, length: usize, end: u32): u32 {
  const body = requestBody(length);
  if (!body.startsWith("name=")) return refuse(400, "name=BOOK is missing");
  const result = invoke("id_2", body.slice(5));
  if (result === null) {
    log(ERROR, "id_2 did not answer");
    return refuse(502, "id_2 did not answer");
  }
  return answer(result);
}
