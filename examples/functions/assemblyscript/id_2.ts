// The function `id_2`: says how many copies of a book the store counts.

import { ERROR, INFO, answer, log, refuse, requestBody, sayId, state } from "./host";
export { proxy_abi_version_0_2_1, proxy_on_memory_allocate } from "./host";

export function proxy_get_id(): void {
  sayId("id_2");
}

export function proxy_on_request_body(context: u32, length: usize, end: u32): u32 {
  const book = requestBody(length);
  log(INFO, "asked for " + book);
  const count = state("state_demo", book);
  if (count === null) {
    log(ERROR, "the store did not answer");
    return refuse(502, "the store did not answer");
  }
  return answer("There are " + count + " inventories for " + book + ".");
}
