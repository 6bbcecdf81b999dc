//! What guests may have the host keep.

use super::*;

/// The most bytes of a name.
const NAME: i64 = 64 << 10;

/// The length of a long value: 17 of them are less than a list or all properties may have, 18 are more.
const LONG: i64 = 60_000;

async fn large() -> Mirror {
    Mirror::with(&ALLOCATOR.replace(r#""memory") 2"#, r#""memory") 16"#)).await
}

/// Puts so many pairs into the guest; gives their length.
fn put_pairs(guest: &mut Mirror, count: usize) -> i64 {
    let head = [(":method", "POST"), (":path", "/"), (":authority", "a")];
    let rest = std::iter::repeat_n(("a", "b"), count - head.len());
    let bytes = pairs::encode(&head.into_iter().chain(rest).collect::<Vec<_>>());
    guest.put(2000, &bytes);
    bytes.len() as i64
}

#[tokio::test]
async fn a_list_has_a_thousand_headers_wherever_it_goes() {
    for (count, [bad, unreadable]) in [(1_000, [OK, OK]), (1_001, [BAD_ARGUMENT, PARSE])] {
        let mut guest = large().await;
        let length = put_pairs(&mut guest, count);
        guest.put(1000, b"c");
        let set = [2, 2000, length];
        assert_eq!(guest.call("proxy_set_header_map_pairs", &set).await, bad);
        let call = [1000, 1, 2000, length, 0, 0, 0, 0, 0, T];
        assert_eq!(guest.call("proxy_http_call", &call).await, bad);
        let stream = [1000, 1, 1000, 1, 1000, 1, 2000, length, T];
        assert_eq!(guest.call("proxy_grpc_stream", &stream).await, unreadable);
        let local = [403, 0, 0, 0, 0, 2000, length, 0];
        assert_eq!(guest.call("proxy_send_local_response", &local).await, bad);
    }
}

#[tokio::test]
async fn a_list_of_headers_has_so_many_bytes() {
    let mut guest = large().await;
    guest.put(1000, b"xyz");
    let add = [2, 1000, 1, 2000, LONG];
    for _ in 0..17 {
        assert_eq!(guest.call("proxy_add_header_map_value", &add).await, OK);
    }
    assert_eq!(guest.call("proxy_add_header_map_value", &add).await, BAD_ARGUMENT);
    let other = [2, 1001, 1, 2000, LONG];
    let replaced = guest.call("proxy_replace_header_map_value", &other).await;
    assert_eq!(replaced, BAD_ARGUMENT);
    let small = [2, 1001, 1, 2000, 1];
    assert_eq!(guest.call("proxy_add_header_map_value", &small).await, OK);
}

#[tokio::test]
async fn a_value_that_is_replaced_does_not_count() {
    let replace = "proxy_replace_header_map_value";
    let mut guest = large().await;
    guest.put(1000, b"aA");
    for at in [1000, 1001] {
        let long = [2, at, 1, 2000, 10 * LONG];
        assert_eq!(guest.call(replace, &long).await, OK);
    }
    let length = put_pairs(&mut guest, 1_000);
    let set = [2, 2000, length];
    assert_eq!(guest.call("proxy_set_header_map_pairs", &set).await, OK);
    guest.put(1000, b"x:path");
    let other = guest.call(replace, &[2, 1000, 1, 2000, 1]).await;
    assert_eq!(other, BAD_ARGUMENT, "another name");
    assert_eq!(guest.call(replace, &[2, 1001, 5, 2000, 1]).await, OK);
}

#[tokio::test]
async fn properties_have_so_many_bytes_together() {
    let mut guest = large().await;
    guest.put(1000, b"abcdefghijklmnopqrstuvwxyz");
    let set = |at: i64| [1000 + at, 1, 2000, LONG];
    for at in 0..17 {
        assert_eq!(guest.call("proxy_set_property", &set(at)).await, OK);
    }
    assert_eq!(guest.call("proxy_set_property", &set(17)).await, INTERNAL);
    assert_eq!(
        guest.call("proxy_set_property", &set(0)).await,
        OK,
        "in its place"
    );
}

#[tokio::test]
async fn names_are_bounded() {
    for (length, status) in [(NAME, OK), (NAME + 1, INTERNAL)] {
        let mut guest = large().await;
        let share = [2000, length, 1000, 1, 0];
        assert_eq!(guest.call("proxy_set_shared_data", &share).await, status);
        let register = [2000, length, T];
        assert_eq!(guest.call("proxy_register_shared_queue", &register).await, status);
        let set = [2000, length, 1000, 1];
        assert_eq!(guest.call("proxy_set_property", &set).await, status);
    }
}
