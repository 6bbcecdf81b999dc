//! The filter that runs in any host, as a function: its local response is the answer.

use super::{Functions, put_example};
use crate::mesh::clients::Ask;

#[tokio::test]
async fn a_filter_refuses_as_a_function_what_it_refuses_elsewhere() {
    let functions = Functions::run("auth.wasm", |folder| put_example(folder, "rust-auth", "auth"));
    let ask = Ask::get("/").header("id", "auth");
    for ask in [ask.clone(), ask.clone().header("x-api-key", "wrong")] {
        let refused = ask.http1(functions.port).await;
        assert_eq!(
            (refused.status.as_u16(), refused.text().as_str()),
            (401, "x-api-key is missing or wrong\n")
        );
        assert_eq!(refused.header("www-authenticate"), "Key");
    }
    let passed = ask.header("x-api-key", "open-sesame").http1(functions.port).await;
    assert_eq!((passed.status.as_u16(), passed.text().as_str()), (200, ""));
}
