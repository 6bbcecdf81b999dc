//! Every host function and every number that it answers. Addresses in the guest's memory: input from
//! 1000 on, results at 16, 20 and 24.

mod bounds;
mod flow;
mod grpc;
mod shared;
mod table;

use crate::{
    abi::Level,
    pairs,
    testing::{ALLOCATOR, Mirror},
};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const PARSE: u32 = 4;
const INVALID_MEMORY: u32 = 6;
const EMPTY: u32 = 7;
const CAS_MISMATCH: u32 = 8;
const INTERNAL: u32 = 10;
const UNIMPLEMENTED: u32 = 12;

/// An address outside.
const WILD: i64 = 0x7fff_0000;
/// Where results go.
const P: i64 = 16;
const N: i64 = 20;
const T: i64 = 24;

/// Puts texts into the guest, one after the other, and gives address and length of each.
fn put<const COUNT: usize>(guest: &mut Mirror, texts: [&str; COUNT]) -> [(i64, i64); COUNT] {
    let mut at = 1000;
    texts.map(|text| {
        guest.put(at, text.as_bytes());
        let found = (at as i64, text.len() as i64);
        at += text.len();
        found
    })
}

/// Functions with one text and nothing else that is a pointer: `before`, the text, `after`.
async fn with(guest: &mut Mirror, name: &str, before: &[i64], texts: &[&str], after: &[i64]) -> u32 {
    let mut at = 1000;
    let mut arguments = before.to_vec();
    for text in texts {
        guest.put(at, text.as_bytes());
        arguments.extend([at as i64, text.len() as i64]);
        at += text.len();
    }
    arguments.extend(after);
    guest.call(name, &arguments).await
}

#[tokio::test]
async fn log_takes_six_levels() {
    let mut guest = Mirror::new().await;
    for level in 0..6 {
        assert_eq!(with(&mut guest, "proxy_log", &[level], &["hello"], &[]).await, OK);
    }
    assert_eq!(
        with(&mut guest, "proxy_log", &[6], &["hello"], &[]).await,
        BAD_ARGUMENT
    );
    assert_eq!(guest.call("proxy_log", &[2, WILD, 1]).await, INVALID_MEMORY);
    let logs = guest.host.logs.lock().unwrap().clone();
    assert_eq!(logs.len(), 4, "below the level of the log nothing is logged");
    assert_eq!(logs[0], ("mirror".to_owned(), Level::Info, "hello".to_owned()));
}

#[tokio::test]
async fn the_level_of_the_log_can_be_asked() {
    let mut guest = Mirror::new().await;
    assert_eq!(guest.call("proxy_get_log_level", &[P]).await, OK);
    assert_eq!(guest.u32(16), 2);
    assert_eq!(guest.call("proxy_get_log_level", &[WILD]).await, INVALID_MEMORY);
}

#[tokio::test]
async fn buffers_are_read_in_parts() {
    let mut guest = Mirror::new().await;
    let mut read = async |kind, start, max| {
        let status = guest
            .call("proxy_get_buffer_bytes", &[kind, start, max, P, N])
            .await;
        (
            status,
            if status == OK {
                guest.given(16, 20)
            } else {
                String::new()
            },
        )
    };
    assert_eq!(read(0, 0, 100).await, (OK, "body".to_owned()));
    assert_eq!(read(0, 1, 2).await, (OK, "od".to_owned()));
    assert_eq!(read(0, 9, 2).await, (OK, String::new()));
    assert_eq!(read(1, 0, 2).await, (OK, String::new()));
    assert_eq!(read(6, 0, 100).await, (OK, "vm".to_owned()));
    assert_eq!(read(7, 0, 100).await, (OK, "configuration".to_owned()));
    for absent in [2, 3, 4, 5] {
        assert_eq!(read(absent, 0, 1).await.0, NOT_FOUND);
    }
    assert_eq!(read(9, 0, 1).await.0, BAD_ARGUMENT);
    assert_eq!(read(0, 1, -1).await.0, BAD_ARGUMENT, "start and length overflow");
    assert_eq!(
        guest.call("proxy_get_buffer_bytes", &[0, 0, 1, WILD, N]).await,
        INVALID_MEMORY
    );
    assert_eq!(
        guest.call("proxy_get_buffer_bytes", &[0, 0, 1, P, WILD]).await,
        INVALID_MEMORY
    );
}

#[tokio::test]
async fn buffers_of_a_context_that_is_not_the_effective_one_are_not_there() {
    let mut guest = Mirror::new().await;
    assert_eq!(guest.call("proxy_set_effective_context", &[1]).await, OK);
    assert_eq!(
        guest.call("proxy_get_buffer_bytes", &[0, 0, 9, P, N]).await,
        NOT_FOUND
    );
    assert_eq!(
        guest.call("proxy_get_header_map_size", &[0, P]).await,
        BAD_ARGUMENT
    );
    assert_eq!(guest.call("proxy_set_effective_context", &[2]).await, OK);
    assert_eq!(guest.call("proxy_get_buffer_bytes", &[0, 0, 9, P, N]).await, OK);
    assert_eq!(
        guest.call("proxy_set_effective_context", &[3]).await,
        BAD_ARGUMENT
    );
}

#[tokio::test]
async fn bodies_and_call_data_are_written_and_configurations_are_not() {
    let mut guest = Mirror::new().await;
    let mut write = async |kind, start, size| {
        with(
            &mut guest,
            "proxy_set_buffer_bytes",
            &[kind, start, size],
            &["new"],
            &[],
        )
        .await
    };
    assert_eq!(write(0, 0, 0).await, OK);
    assert_eq!(write(1, 0, 100).await, OK);
    assert_eq!(write(8, 0, i64::from(i32::MAX)).await, OK);
    assert_eq!(write(6, 0, 0).await, BAD_ARGUMENT);
    assert_eq!(write(7, 0, 0).await, BAD_ARGUMENT);
    assert_eq!(write(5, 0, 0).await, NOT_FOUND);
    assert_eq!(write(9, 0, 0).await, BAD_ARGUMENT);
    assert_eq!(
        guest.call("proxy_set_buffer_bytes", &[1, 0, 0, WILD, 1]).await,
        INVALID_MEMORY
    );
    let state = guest.guest();
    assert_eq!(state.call_data, "new");
    let stream = state.stream().unwrap();
    assert_eq!(stream.request.body, "newbody");
    assert_eq!(stream.response_body, "new");
}

#[tokio::test]
async fn a_buffer_has_a_length() {
    let mut guest = Mirror::new().await;
    assert_eq!(guest.call("proxy_get_buffer_status", &[0, P, N]).await, OK);
    assert_eq!((guest.u32(16), guest.u32(20)), (4, 0));
    assert_eq!(guest.call("proxy_get_buffer_status", &[4, P, N]).await, NOT_FOUND);
    assert_eq!(
        guest.call("proxy_get_buffer_status", &[9, P, N]).await,
        BAD_ARGUMENT
    );
    assert_eq!(
        guest.call("proxy_get_buffer_status", &[0, P, WILD]).await,
        INVALID_MEMORY
    );
}

#[tokio::test]
async fn guests_of_the_oldest_version_ask_for_their_configuration() {
    let mut guest = Mirror::new().await;
    assert_eq!(guest.call("proxy_get_configuration", &[P, N]).await, OK);
    assert_eq!(guest.given(16, 20), "configuration");
}

#[tokio::test]
async fn a_value_of_a_header_is_found_in_any_case() {
    let mut guest = Mirror::new().await;
    let [name] = put(&mut guest, [":PATH"]);
    let value = [0, name.0, name.1, P, N];
    assert_eq!(guest.call("proxy_get_header_map_value", &value).await, OK);
    assert_eq!(guest.given(16, 20), "/p?q=1");
    assert_eq!(
        with(&mut guest, "proxy_get_header_map_value", &[0], &["x"], &[P, N]).await,
        NOT_FOUND
    );
    assert_eq!(
        with(&mut guest, "proxy_get_header_map_value", &[2], &["x"], &[P, N]).await,
        NOT_FOUND
    );
    for absent in [1, 3, 4, 5, 6, 7, 8] {
        let status = with(
            &mut guest,
            "proxy_get_header_map_value",
            &[absent],
            &["x"],
            &[P, N],
        )
        .await;
        assert_eq!(status, BAD_ARGUMENT, "map {absent}");
    }
    assert_eq!(
        guest
            .call("proxy_get_header_map_value", &[0, WILD, 1, P, N])
            .await,
        INVALID_MEMORY
    );
}

#[tokio::test]
async fn a_whole_map_is_read_and_written() {
    let mut guest = Mirror::new().await;
    assert_eq!(guest.call("proxy_get_header_map_pairs", &[0, P, N]).await, OK);
    let (address, length) = (guest.u32(16) as usize, guest.u32(20) as usize);
    let list = pairs::decode(&guest.get(address, length), 10).unwrap();
    assert_eq!(list.len(), 4);
    assert_eq!(guest.call("proxy_get_header_map_size", &[0, P]).await, OK);
    assert_eq!(guest.u32(16) as usize, length);
    let bytes = pairs::encode(&[("a", "b")]);
    guest.put(1000, &bytes);
    let length = bytes.len() as i64;
    assert_eq!(
        guest.call("proxy_set_header_map_pairs", &[2, 1000, length]).await,
        OK
    );
    assert_eq!(
        guest
            .guest()
            .stream()
            .unwrap()
            .response_headers
            .get(b"a")
            .unwrap(),
        "b"
    );
    assert_eq!(
        guest
            .call("proxy_set_header_map_pairs", &[2, 1000, length - 1])
            .await,
        BAD_ARGUMENT
    );
    for absent in [1, 3, 4, 5, 6, 7, 8] {
        assert_eq!(
            guest.call("proxy_get_header_map_pairs", &[absent, P, N]).await,
            BAD_ARGUMENT
        );
        assert_eq!(
            guest.call("proxy_get_header_map_size", &[absent, P]).await,
            BAD_ARGUMENT
        );
        assert_eq!(
            guest
                .call("proxy_set_header_map_pairs", &[absent, 1000, length])
                .await,
            BAD_ARGUMENT
        );
    }
    assert_eq!(
        guest.call("proxy_set_header_map_pairs", &[2, WILD, 1]).await,
        INVALID_MEMORY
    );
}

#[tokio::test]
async fn headers_are_added_replaced_and_removed() {
    let mut guest = Mirror::new().await;
    let add = "proxy_add_header_map_value";
    let replace = "proxy_replace_header_map_value";
    let remove = "proxy_remove_header_map_value";
    assert_eq!(with(&mut guest, add, &[2], &["a", "1"], &[]).await, OK);
    assert_eq!(with(&mut guest, add, &[2], &["a", "2"], &[]).await, OK);
    assert_eq!(guest.guest().stream().unwrap().response_headers.0.len(), 2);
    assert_eq!(with(&mut guest, replace, &[2], &["A", ""], &[]).await, OK);
    assert_eq!(guest.guest().stream().unwrap().response_headers.0.len(), 1);
    assert_eq!(with(&mut guest, remove, &[2], &["a"], &[]).await, OK);
    assert_eq!(
        with(&mut guest, remove, &[2], &["a"], &[]).await,
        OK,
        "is not there any more"
    );
    assert!(guest.guest().stream().unwrap().response_headers.0.is_empty());
    for name in [add, replace] {
        assert_eq!(with(&mut guest, name, &[9], &["a", "1"], &[]).await, BAD_ARGUMENT);
        assert_eq!(with(&mut guest, name, &[6], &["a", "1"], &[]).await, BAD_ARGUMENT);
        assert_eq!(with(&mut guest, name, &[2], &["", "1"], &[]).await, BAD_ARGUMENT);
        assert_eq!(guest.call(name, &[2, 1000, 1, WILD, 1]).await, INVALID_MEMORY);
    }
    assert_eq!(with(&mut guest, remove, &[9], &["a"], &[]).await, BAD_ARGUMENT);
    assert_eq!(guest.call(remove, &[2, WILD, 1]).await, INVALID_MEMORY);
}

#[tokio::test]
async fn properties_are_found_by_their_path() {
    let mut guest = Mirror::new().await;
    let mut property =
        async |path: &str| match with(&mut guest, "proxy_get_property", &[], &[path], &[P, N]).await {
            OK => guest.given(16, 20),
            status => status.to_string(),
        };
    for (path, value) in [
        ("plugin_name", "plugin"),
        ("plugin_root_id", ""),
        ("plugin_vm_id", ""),
        ("request\0path", "/p?q=1"),
        ("request\0url_path", "/p"),
        ("request\0query", "q=1"),
        ("request\0host", "h"),
        ("request\0method", "GET"),
        ("request\0scheme", "http"),
        ("request\0protocol", "HTTP/1.1"),
        ("request\0headers\0:method", "GET"),
        ("request\0size", "\x04\0\0\0\0\0\0\0"),
        ("source\0address", "127.0.0.1:4711"),
        ("source\0port", "\x67\x12\0\0\0\0\0\0"),
        ("request\0useragent", "1"),
        ("response\0code", "1"),
        ("nothing", "1"),
        ("", "1"),
    ] {
        assert_eq!(property(path).await, value, "{path:?}");
    }
    assert_eq!(
        guest.call("proxy_get_property", &[WILD, 1, P, N]).await,
        INVALID_MEMORY
    );
}

#[tokio::test]
async fn a_guest_sets_properties_of_its_own_only() {
    let mut guest = Mirror::new().await;
    let set = "proxy_set_property";
    for value in ["one", "two"] {
        assert_eq!(with(&mut guest, set, &[], &["mine", value], &[]).await, OK);
    }
    assert_eq!(
        with(&mut guest, "proxy_get_property", &[], &["mine"], &[P, N]).await,
        OK
    );
    assert_eq!(guest.given(16, 20), "two");
    assert_eq!(
        with(&mut guest, set, &[], &["plugin_name", "x"], &[]).await,
        NOT_FOUND
    );
    assert_eq!(guest.call(set, &[1000, 1, WILD, 1]).await, INVALID_MEMORY);
}

#[tokio::test]
async fn malloc_serves_where_the_abi_s_allocator_is_not_there() {
    let mut guest = Mirror::with(&ALLOCATOR.replace("proxy_on_memory_allocate", "malloc")).await;
    assert_eq!(guest.call("proxy_get_configuration", &[P, N]).await, OK);
    assert_eq!(guest.given(16, 20), "configuration");
}

#[tokio::test]
async fn without_an_allocator_or_with_one_that_fails_nothing_is_given() {
    let memory = r#"(memory (export "memory") 2)"#;
    let mut guest = Mirror::with(memory).await;
    assert_eq!(
        guest.call("proxy_get_configuration", &[P, N]).await,
        INVALID_MEMORY
    );
    for answer in ["i32.const 0", "i32.const 0x7fffffff"] {
        let own = format!(r#"{memory} (func (export "malloc") (param i32) (result i32) {answer})"#);
        let mut guest = Mirror::with(&own).await;
        assert_eq!(
            guest.call("proxy_get_configuration", &[P, N]).await,
            INVALID_MEMORY
        );
    }
}

#[tokio::test]
async fn no_bytes_are_given_without_the_allocator() {
    let own = r#"(memory (export "memory") 2) (func (export "malloc") (param i32) (result i32) unreachable)"#;
    let mut guest = Mirror::with(own).await;
    assert_eq!(guest.call("proxy_get_buffer_bytes", &[1, 0, 9, P, N]).await, OK);
    assert_eq!((guest.u32(16), guest.u32(20)), (0, 0));
}

#[tokio::test]
async fn an_allocator_may_log_and_nothing_else() {
    let own = r#"
        (memory (export "memory") 2)
        (func (export "malloc") (param i32) (result i32)
            (i32.store (i32.const 40) (call $host_proxy_log (i32.const 2) (i32.const 0) (i32.const 0)))
            (i32.store (i32.const 44) (call $host_proxy_get_configuration (i32.const 16) (i32.const 20)))
            (i32.store (i32.const 48) (call $host_proxy_done))
            i32.const 2000)
    "#;
    let mut guest = Mirror::with(own).await;
    assert_eq!(guest.call("proxy_get_configuration", &[P, N]).await, OK);
    assert_eq!(
        (guest.u32(40), guest.u32(44), guest.u32(48)),
        (OK, INTERNAL, INTERNAL)
    );
    assert_eq!(guest.given(16, 20), "configuration");
}

#[tokio::test]
async fn an_allocator_that_traps_ends_the_guest() {
    let own = r#"(memory (export "memory") 2) (func (export "malloc") (param i32) (result i32) unreachable)"#;
    let mut guest = Mirror::with(own).await;
    assert!(guest.try_call("proxy_get_configuration", &[P, N]).await.is_err());
}

#[tokio::test]
async fn memory_that_grows_while_it_is_allocated_is_used() {
    let own = r#"
        (memory (export "memory") 1)
        (func (export "malloc") (param i32) (result i32)
            (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
    "#;
    let mut guest = Mirror::with(own).await;
    assert_eq!(guest.call("proxy_get_configuration", &[P, N]).await, OK);
    assert_eq!(guest.u32(16), 65536);
    assert_eq!(guest.given(16, 20), "configuration");
}
