//! A request for each method that has something to work on in the standalone configuration.

/// Method with its service, and request as protobuf JSON; in the order in which they are
/// called, since some read what others wrote.
const REQUESTS: &[(&str, &str)] = &[
    (
        "Runtime/SayHello",
        r#"{"service_name": "helloworld", "name": "matrix"}"#,
    ),
    (
        "Lifecycle/ApplyConfiguration",
        r#"{"component_config": {"kind": "hellos", "name": "helloworld", "metadata": {"hello": "hi"}}}"#,
    ),
    (
        "Runtime/InvokeService",
        r#"{"id": "matrix", "message": {"method": "m"}}"#,
    ),
    (
        "Runtime/SaveState",
        r#"{"store_name": "state_demo", "states": [{"key": "a", "value": "YQ=="}]}"#,
    ),
    ("Runtime/GetState", r#"{"store_name": "state_demo", "key": "a"}"#),
    (
        "Runtime/GetBulkState",
        r#"{"store_name": "state_demo", "keys": ["a", "b"]}"#,
    ),
    (
        "Runtime/ExecuteStateTransaction",
        r#"{"storeName": "state_demo", "operations": [{"operationType": "upsert", "request": {"key": "b", "value": "Yg=="}}]}"#,
    ),
    (
        "Runtime/DeleteState",
        r#"{"store_name": "state_demo", "key": "a"}"#,
    ),
    (
        "Runtime/DeleteBulkState",
        r#"{"store_name": "state_demo", "states": [{"key": "b"}]}"#,
    ),
    (
        "Runtime/SaveConfiguration",
        r#"{"store_name": "config_demo", "app_id": "app1", "items": [{"key": "k", "content": "v"}]}"#,
    ),
    (
        "Runtime/GetConfiguration",
        r#"{"store_name": "config_demo", "app_id": "app1", "keys": ["k"]}"#,
    ),
    (
        "Runtime/SubscribeConfiguration",
        r#"{"store_name": "config_demo", "app_id": "app1", "keys": ["k"]}"#,
    ),
    (
        "Runtime/DeleteConfiguration",
        r#"{"store_name": "config_demo", "app_id": "app1", "keys": ["k"]}"#,
    ),
    (
        "Runtime/TryLock",
        r#"{"store_name": "lock_demo", "resource_id": "r", "lock_owner": "o", "expire": 10}"#,
    ),
    (
        "Runtime/LockKeepAlive",
        r#"{"store_name": "lock_demo", "resource_id": "r", "lock_owner": "o", "expire": 10}"#,
    ),
    (
        "Runtime/Unlock",
        r#"{"store_name": "lock_demo", "resource_id": "r", "lock_owner": "o"}"#,
    ),
    (
        "Runtime/GetNextId",
        r#"{"store_name": "sequencer_demo", "key": "k"}"#,
    ),
    (
        "Runtime/PublishEvent",
        r#"{"pubsub_name": "pub_subs_demo", "topic": "t", "data": "e30=", "data_content_type": "application/json"}"#,
    ),
    (
        "Runtime/SubscribeTopicEvents",
        r#"{"initial_request": {"pubsub_name": "pub_subs_demo", "topic": "matrix"}}"#,
    ),
    (
        "Runtime/PutFile",
        r#"{"store_name": "file_demo", "name": "matrix.txt", "data": "YQ==", "metadata": {"FileMode": "420", "FileFlag": "577"}}"#,
    ),
    (
        "Runtime/GetFile",
        r#"{"store_name": "file_demo", "name": "matrix.txt"}"#,
    ),
    (
        "Runtime/GetFileMeta",
        r#"{"request": {"store_name": "file_demo", "name": "matrix.txt"}}"#,
    ),
    (
        "Runtime/ListFile",
        r#"{"request": {"store_name": "file_demo", "name": "."}, "page_size": 10}"#,
    ),
    (
        "Runtime/DelFile",
        r#"{"request": {"store_name": "file_demo", "name": "matrix.txt"}}"#,
    ),
    (
        "Runtime/InvokeBinding",
        r#"{"name": "bindings_demo", "operation": "get", "metadata": {"path": "/actuator/health/liveness"}}"#,
    ),
    (
        "Runtime/GetSecret",
        r#"{"store_name": "secret_demo", "key": "PATH"}"#,
    ),
    ("Runtime/GetBulkSecret", r#"{"store_name": "secret_demo"}"#),
];

/// The request for `package.Service/Method`; an empty one where nothing fits.
pub fn request_of(method: &str) -> &'static str {
    let found = position(method).and_then(|at| REQUESTS.get(at));
    found.map_or("{}", |(_, request)| request)
}

/// When the method is called; those without a request of their own come first.
pub fn position(method: &str) -> Option<usize> {
    REQUESTS
        .iter()
        .position(|(name, _)| method.ends_with(&format!(".{name}")))
}
