//! Logins: who is served, and what the others are told. What all components make of the settings.

use layotto_core::{
    Metadata, Open, Secret, Settings,
    key_prefix::PrefixedKey,
    lock::{Grant, LockStore, Owned},
    sequencer::Sequencer,
    state::{Set, StateStore},
};
use serde_json::{Value, json};

use super::*;
use crate::{lock, sequencer, state};

const ALICE: (&str, &str) = ("alice", "s3cret");
const NOBODY: (&str, &str) = ("", "");

fn context() -> Context {
    Context::standalone("test", ".")
}

fn login((username, password): (&str, &str)) -> Result<Access> {
    let given = Given {
        username,
        password: &Secret::new(password.to_owned()),
        enable_tls: false,
        ca_cert: "",
        client_cert: "",
        client_key: &Secret::default(),
    };
    Access::new(&given, &context())
}

fn by(user: (&str, &str), server: &Server) -> Ensemble {
    ensemble_with(server.address(), login(user).unwrap())
}

/// Opens a component with `settings` and those of `more`; fails where one of them is not known.
async fn open<C: Open>(settings: Value, more: &Value) -> Result<C> {
    let (Value::Object(mut all), Value::Object(more)) = (settings, more.clone()) else {
        unreachable!()
    };
    all.extend(more);
    let parsed = Settings::new(all).parse::<C::Config>().unwrap();
    assert_eq!(parsed.unknown, [""; 0]);
    C::open(parsed.config, context()).await
}

async fn open_state(servers: &str, more: &Value) -> Result<state::Zookeeper> {
    open(json!({"servers": servers, "sessionTimeout": "5s"}), more).await
}

async fn open_lock(servers: &str, more: &Value) -> Result<lock::Zookeeper> {
    open(json!({"zookeeperHosts": servers}), more).await
}

async fn open_sequencer(servers: &str, more: &Value) -> Result<sequencer::Zookeeper> {
    open(json!({"zookeeperHosts": servers}), more).await
}

/// Writes with a component of each kind that has the settings of `more`.
pub(super) async fn use_each(servers: impl ToString, more: &Value) {
    let servers = servers.to_string();
    let set = Set {
        key: PrefixedKey("k".to_owned()),
        value: vec![7; 900_000].into(),
        etag: None,
        options: Default::default(),
        metadata: Metadata::new(),
    };
    let state = open_state(&servers, more).await.unwrap();
    state.set(set).await.unwrap();
    let lock = Owned {
        resource: PrefixedKey("l".to_owned()),
        owner: "o".to_owned(),
    };
    let locks = open_lock(&servers, more).await.unwrap();
    let grant = locks.try_lock(&lock, Duration::from_secs(9)).await.unwrap();
    assert!(matches!(grant, Grant::Acquired { .. }));
    locks.unlock(&lock).await.unwrap();
    let ids = open_sequencer(&servers, more).await.unwrap();
    let id = ids.next_id(&PrefixedKey("i".to_owned()), &Metadata::new()).await;
    assert_eq!(id.unwrap(), 1);
}

/// Why components with the settings of `more` do not open; the same for each kind.
pub(super) async fn refusal(servers: &str, more: &Value) -> Error {
    let refusals = [
        open_state(servers, more).await.err().unwrap(),
        open_lock(servers, more).await.err().unwrap(),
        open_sequencer(servers, more).await.err().unwrap(),
    ];
    let [first, others @ ..] = refusals;
    for other in others {
        assert_eq!(first.message(), other.message());
    }
    first
}

async fn create(ensemble: &Ensemble, path: &'static str) -> Result<()> {
    let create = |session: Client| async move { session.create(path, &[], &PERSISTENT).await.map(drop) };
    ensemble.call(0, create).await.map_err(Into::into)
}

#[tokio::test]
async fn a_server_that_wants_a_login_serves_each_component_that_has_one() {
    needs!(zookeeper::PROGRAM);
    let server = zookeeper::start_with(zookeeper::LOGIN_REQUIRED).await.unwrap();
    let settings = json!({"username": "alice", "password": "s3cret"});
    use_each(server.address(), &settings).await;
}

#[tokio::test]
async fn a_server_that_wants_a_login_tells_those_without_at_once() {
    needs!(zookeeper::PROGRAM);
    let server = zookeeper::start_with(zookeeper::LOGIN_REQUIRED).await.unwrap();
    let ensemble = by(NOBODY, &server);
    let part = "username and password are not set";
    until_told(&ensemble, ErrorKind::Unauthenticated, part).await;
    let begun = Instant::now();
    let error = Error::from(ensemble.open(Duration::from_secs(5)).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert!(begun.elapsed() < CONNECT_TIMEOUT, "{:?}", begun.elapsed());
}

/// Asks in vain until the reason is of this kind and has this part: a server that just started, or
/// is busy, may not tell it at first.
pub(super) async fn until_told(ensemble: &Ensemble, kind: ErrorKind, part: &str) -> String {
    let begun = Instant::now();
    loop {
        let error = ask(ensemble).await.unwrap_err();
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        if error.kind() == kind && error.message().contains(part) {
            return error.message().to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_takes_no_logins_says_so() {
    needs!(zookeeper::PROGRAM);
    let server = zookeeper::start_with(zookeeper::LOGIN_REFUSED).await.unwrap();
    let ensemble = by(ALICE, &server);
    until_told(&ensemble, ErrorKind::Unauthenticated, "refuse the login").await;
}

/// Servers take any login; the right one is that which a node's list names.
#[tokio::test]
async fn a_node_of_a_user_is_open_to_the_login_of_that_user_alone() {
    let Some(server) = server().await else { return };
    let operator = Client::connector().with_auth("digest", b"alice:s3cret");
    let operator = operator.connect(&server.address().to_string()).await.unwrap();
    let options = CreateMode::Persistent.with_acls(Acls::creator_all());
    operator.create("/p", &[], &options).await.unwrap();

    create(&by(ALICE, &server), "/p/alice").await.unwrap();
    let (acl, _) = operator.get_acl("/p/alice").await.unwrap();
    assert_eq!(acl, Acls::anyone_all().to_vec());
    for stranger in [("alice", "wr0ng"), ("bob", "s3cret"), NOBODY] {
        let error = create(&by(stranger, &server), "/p/other").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(!format!("{error:?}").contains("wr0ng"), "{error:?}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    for (settings, reason) in [
        (json!({"username": "alice"}), "password: needed"),
        (json!({"password": "s3cret"}), "username: needed"),
        (
            json!({"username": "al:ice", "password": "s3cret"}),
            "username: a user",
        ),
        #[cfg(not(feature = "zookeeper-tls"))]
        (json!({"enableTLS": true}), "--features zookeeper-tls"),
        #[cfg(not(feature = "zookeeper-tls"))]
        (json!({"caCert": "ca.pem"}), "--features zookeeper-tls"),
        #[cfg(not(feature = "zookeeper-tls"))]
        (json!({"clientCert": "a.pem"}), "--features zookeeper-tls"),
        #[cfg(not(feature = "zookeeper-tls"))]
        (json!({"clientKey": "a.key"}), "--features zookeeper-tls"),
        #[cfg(feature = "zookeeper-tls")]
        (json!({"caCert": "/no/such.pem"}), "caCert: neither"),
        #[cfg(feature = "zookeeper-tls")]
        (json!({"clientCert": "a.pem"}), "clientKey: needed"),
        #[cfg(feature = "zookeeper-tls")]
        (json!({"clientKey": "a.key"}), "clientCert: needed"),
    ] {
        let error = refusal("127.0.0.1:1", &settings).await;
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.message().contains(reason), "{error}");
        assert!(!error.message().contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn a_password_is_in_no_text() {
    let settings = [
        ("zookeeperHosts", "h"),
        ("username", "u"),
        ("password", "s3cret"),
        ("clientKey", "s3cret"),
    ];
    let config: lock::zookeeper::Config = Settings::from_iter(settings).parse().unwrap().config;
    let access = login(ALICE).unwrap();
    for text in [format!("{config:?}"), format!("{access:?}"), access.identity()] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn components_with_another_login_have_another_session() {
    let cx = context();
    let open = async |user| {
        let access = login(user).unwrap();
        Ensemble::shared(["a"], Duration::from_secs(5), access, &cx)
            .await
            .unwrap()
    };
    let alice = open(ALICE).await;
    assert!(Arc::ptr_eq(&alice, &open(ALICE).await));
    for other in [("alice", "other"), ("bob", "s3cret"), NOBODY] {
        assert!(!Arc::ptr_eq(&alice, &open(other).await), "{other:?}");
    }
}
