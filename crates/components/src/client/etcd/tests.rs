//! The client against real nodes that come, go and stand still.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use layotto_core::Secret;
use layotto_testkit::process::free_address;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    testing::{client, ctl, cx, node, settings, three_nodes},
    wire::{RequestOp, StatusRequest, StatusResponse, WatchCreateRequest, end_of},
    *,
};

const SECOND: Duration = Duration::from_secs(1);
/// Nodes are tried again after 0.75 s at most; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(3);

impl Client {
    async fn put(&self, key: &str, repeat: Repeat) -> Result<TxnResponse> {
        let request = TxnRequest {
            success: vec![RequestOp::put(key.to_owned(), "v", 0)],
            ..TxnRequest::default()
        };
        self.txn(request, repeat).await
    }

    async fn get(&self, key: &str) -> Result<RangeResponse> {
        self.range(RangeRequest::one(key.to_owned())).await
    }

    /// How long it takes until a write succeeds, each try within half a second.
    async fn time_until_it_writes(&self) -> Duration {
        let begun = Instant::now();
        while !matches!(timeout(SECOND / 2, self.put("k", Repeat::Never)).await, Ok(Ok(_))) {
            assert!(begun.elapsed() < 30 * SECOND, "no write succeeds");
            sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

// deviation: D104
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_at_first_is_used_once_it_is_there() {
    let Some(mut node) = node(&[]).await else { return };
    node.kill();
    let client = client(&settings([&node])).await;
    for _ in 0..20 {
        let begun = Instant::now();
        let error = client.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("connection refused"), "{error}");
        assert!(begun.elapsed() < SOON);
    }
    node.resume().await.unwrap();
    assert!(client.time_until_it_writes().await < SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_is_used_again_once_it_is_back() {
    let Some(mut node) = node(&[]).await else { return };
    let client = client(&settings([&node])).await;
    client.put("k", Repeat::Never).await.unwrap();
    node.kill();
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    node.resume().await.unwrap();
    assert!(client.time_until_it_writes().await < SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_node_that_stands_still_end_with_their_callers() {
    let Some(node) = node(&[]).await else { return };
    let client = client(&settings([&node])).await;
    client.put("k", Repeat::Never).await.unwrap();
    node.freeze().unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let client = Arc::clone(&client);
        callers.spawn(async move { timeout(SECOND / 2, client.get("k")).await.is_err() });
    }
    assert!(callers.join_all().await.into_iter().all(|ended| ended));
    node.thaw().unwrap();
    assert!(client.time_until_it_writes().await < SOON);
    assert_eq!(client.link.made(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_among_others_that_stands_still_is_left() {
    let Some(nodes) = three_nodes().await else { return };
    let client = client(&settings(&nodes)).await;
    client.put("k", Repeat::Never).await.unwrap();
    let used = client.link.session().await.unwrap().node;
    nodes[used].freeze().unwrap();
    // It is found out by a ping, which etcd does not want too often.
    assert!(client.time_until_it_writes().await < 15 * SECOND);
    nodes[used].thaw().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_answer_at_the_start_hold_nobody_up() {
    let Some(nodes) = three_nodes().await else { return };
    nodes[0].freeze().unwrap();
    // It may have led the others, which take their time to find another.
    client(&settings([&nodes[1]])).await.time_until_it_writes().await;
    for _ in 0..5 {
        let client = client(&settings(&nodes)).await;
        assert!(client.time_until_it_writes().await < SOON);
        assert_ne!(client.link.session().await.unwrap().node, 0);
    }
    nodes[0].thaw().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_followed_by_the_next() {
    let Some(mut nodes) = three_nodes().await else {
        return;
    };
    for _ in 0..2 {
        let all = client(&settings(&nodes)).await;
        all.put("k", Repeat::Never).await.unwrap();
        let leader = leader(&nodes).await;
        nodes[leader].kill();
        let direct = client(&settings([&nodes[(leader + 1) % 3]])).await;
        let (direct, all) = tokio::join!(direct.time_until_it_writes(), all.time_until_it_writes());
        assert!(all < direct + SOON, "{all:?} {direct:?}");
        nodes[leader].resume().await.unwrap();
    }
}

/// Which of the nodes leads.
async fn leader(nodes: &[layotto_testkit::server::Server]) -> usize {
    for (index, node) in nodes.iter().enumerate() {
        let client = client(&settings([node])).await;
        let session = client.link.session().await.unwrap();
        let path = "/etcdserverpb.Maintenance/Status";
        let answer = session.unary(path, StatusRequest {}, &Manner::default()).await;
        let answer: StatusResponse = answer.unwrap();
        if answer.header.unwrap().member_id == answer.leader {
            return index;
        }
    }
    panic!("no node leads")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_one_connection() {
    let Some(node) = node(&[]).await else { return };
    let client = client(&settings([&node])).await;
    let mut callers = JoinSet::new();
    for number in 0..200 {
        let client = Arc::clone(&client);
        callers.spawn(async move { client.put(&format!("k{number}"), Repeat::Never).await.unwrap() });
    }
    callers.join_all().await;
    assert_eq!(client.link.made(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn components_with_the_same_settings_share_a_client_and_an_unused_one_costs_nothing() {
    let Some(node) = node(&[]).await else { return };
    let cx = cx();
    let settings = settings([&node]);
    let one = Client::shared(&settings, "endpoints", &cx).await.unwrap();
    let same = Client::shared(&settings, "endpoints", &cx).await.unwrap();
    let other = Settings {
        username: "u".to_owned(),
        ..settings
    };
    let other = Client::shared(&other, "endpoints", &cx).await.unwrap();
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    one.ping("ping").await.unwrap();
    assert_eq!((cx.tasks.len(), one.link.made()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_used_asks_a_majority_whether_it_is_there() {
    let Some(mut nodes) = three_nodes().await else {
        return;
    };
    let client = client(&settings(&nodes)).await;
    client.ping("ping").await.unwrap();
    client.put("k", Repeat::Never).await.unwrap();
    client.ping("ping").await.unwrap();
    nodes[0].kill();
    nodes[1].kill();
    let alone = timeout(20 * SECOND, async {
        while client.ping("ping").await.is_ok() {
            sleep(SECOND / 50).await;
        }
    });
    alone.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_callers_there_are_nodes_are_tried_ten_times_a_second_at_most() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nodes = vec![
        listener.local_addr().unwrap().to_string(),
        free_address().to_string(),
    ];
    let tried = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&tried);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let client = client(&Settings {
        endpoints: Endpoints(nodes),
        ..Settings::default()
    })
    .await;
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let client = Arc::clone(&client);
        callers.spawn(async move {
            let begun = Instant::now();
            while begun.elapsed() < 2 * SECOND {
                assert_eq!(client.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
                sleep(Duration::from_millis(5)).await;
            }
        });
    }
    callers.join_all().await;
    // One of two nodes, for two seconds.
    let tried = tried.load(Ordering::SeqCst);
    assert!((2..=11).contains(&tried), "{tried}");
}

/// Passes bytes to a node until the connections are cut.
struct Way {
    address: std::net::SocketAddr,
    cut: Arc<std::sync::Mutex<CancellationToken>>,
    /// Bytes that came for the node.
    came: Arc<AtomicU32>,
}

impl Way {
    async fn to(node: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, came) = (
            Arc::<std::sync::Mutex<CancellationToken>>::default(),
            Arc::<AtomicU32>::default(),
        );
        let (token, counter) = (Arc::clone(&cut), Arc::clone(&came));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (cut, counter) = (token.lock().unwrap().clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    let far = TcpStream::connect(node).await.unwrap();
                    let (mut from_near, mut to_near) = near.into_split();
                    let (mut from_far, mut to_far) = far.into_split();
                    let there = async {
                        let mut bytes = [0; 4096];
                        while let Ok(count @ 1..) = from_near.read(&mut bytes).await {
                            if to_far.write_all(&bytes[..count]).await.is_err() {
                                break;
                            }
                            counter.fetch_add(u32::try_from(count).unwrap(), Ordering::SeqCst);
                        }
                    };
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = there => {}
                        _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
                    }
                });
            }
        });
        Self { address, cut, came }
    }

    /// Waits until more comes for the node than the `before`.
    async fn something_comes(&self, before: u32) {
        while self.came.load(Ordering::SeqCst) <= before {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn cut(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoints: Endpoints(vec![self.address.to_string()]),
            ..Settings::default()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_made_again_only_where_that_is_as_good_as_once() {
    let Some(node) = node(&[]).await else { return };
    let way = Way::to(node.address()).await;
    let client = client(&way.settings()).await;
    for (repeat, key) in [(Repeat::Never, "never"), (Repeat::Safe, "safe")] {
        client.get(key).await.unwrap();
        // Carried out when it goes on, with nobody there to hear of it.
        node.freeze().unwrap();
        let before = way.came.load(Ordering::SeqCst);
        let write = {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.put(key, repeat).await })
        };
        way.something_comes(before).await;
        way.cut();
        let outcome = match repeat {
            Repeat::Never => {
                let outcome = write.await.unwrap();
                node.thaw().unwrap();
                outcome
            }
            Repeat::Safe => {
                node.thaw().unwrap();
                write.await.unwrap()
            }
        };
        let written = || async { client.get(key).await.ok()?.kvs.first().map(|found| found.version) };
        match repeat {
            Repeat::Never => {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
                // It may not have been carried out; it was not carried out twice.
                while client.get(key).await.is_err() {}
                assert!(written().await.is_none_or(|version| version == 1));
            }
            Repeat::Safe => {
                outcome.unwrap();
                assert!(written().await.is_some_and(|version| version <= 2));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_was_cut_is_replaced_without_an_error() {
    let Some(node) = node(&[]).await else { return };
    let way = Way::to(node.address()).await;
    let client = client(&way.settings()).await;
    for _ in 0..3 {
        client.put("k", Repeat::Never).await.unwrap();
        way.cut();
        while !client.link.is_lost() {
            sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(client.link.made(), 3);
}

/// Turns authentication on, with the user `root`, and a user `reader` who may read below `/r/`.
fn protect(node: &layotto_testkit::server::Server) {
    ctl(node, &["user", "add", "root:p4ss"]);
    ctl(node, &["user", "add", "reader:p4ss"]);
    ctl(node, &["role", "add", "reader"]);
    ctl(
        node,
        &["role", "grant-permission", "reader", "read", "--prefix", "/r/"],
    );
    ctl(node, &["user", "grant-role", "reader", "reader"]);
    ctl(node, &["user", "grant-role", "root", "root"]);
    ctl(node, &["auth", "enable"]);
}

fn as_user(node: &layotto_testkit::server::Server, name: &str, password: &str) -> Settings {
    Settings {
        username: name.to_owned(),
        password: Secret::new(password.to_owned()),
        ..settings([node])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_prove_who_they_are_again_when_their_token_is_forgotten() {
    let Some(mut node) = node(&[]).await else { return };
    // Before there are users, a name changes nothing.
    let early = client(&as_user(&node, "root", "p4ss")).await;
    early.put("k", Repeat::Never).await.unwrap();
    protect(&node);
    early.put("k", Repeat::Never).await.unwrap();

    let root = client(&as_user(&node, "root", "p4ss")).await;
    root.put("k", Repeat::Never).await.unwrap();
    node.kill();
    node.resume().await.unwrap();
    // The node has forgotten its tokens.
    let begun = Instant::now();
    loop {
        match root.put("k", Repeat::Never).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        assert!(begun.elapsed() < 5 * SECOND);
        sleep(SECOND / 50).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_or_not_allowed_is_told_so() {
    let Some(node) = node(&[]).await else { return };
    protect(&node);
    let nobody = client(&settings([&node])).await;
    let wrong = client(&as_user(&node, "root", "guess")).await;
    for unknown in [&nobody, &wrong] {
        let error = unknown.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(!error.message().contains("guess"));
    }
    let reader = client(&as_user(&node, "reader", "p4ss")).await;
    reader.get("/r/k").await.unwrap();
    let error = reader.put("/r/k", Repeat::Never).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    // It is there, whatever it lets this user do.
    reader.ping("elsewhere").await.unwrap();
}

fn all_of(prefix: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: prefix.to_owned().into(),
        range_end: end_of(prefix.as_bytes()),
        ..WatchCreateRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_not_allowed_is_told_so() {
    let Some(node) = node(&[]).await else { return };
    protect(&node);
    let reader = client(&as_user(&node, "reader", "p4ss")).await;
    let ended = reader.watch(all_of("/other/")).await.err();
    let Some(Ended::Lost(error)) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(error.message(), "etcd: permission denied");
    reader.watch(all_of("/r/")).await.unwrap();
    let nobody = client(&settings([&node])).await;
    let Err(Ended::Lost(error)) = nobody.watch(all_of("/r/")).await else {
        panic!("nobody watches")
    };
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_with_a_new_token_where_the_old_one_is_forgotten() {
    let Some(node) = node(&[]).await else { return };
    // Before there are users none is needed.
    let reader = client(&as_user(&node, "reader", "p4ss")).await;
    reader.watch(all_of("/r/")).await.unwrap();
    protect(&node);
    reader.watch(all_of("/r/")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a key of thirty-two bytes at least").unwrap();
    let token = format!("jwt,priv-key={},sign-method=HS256,ttl=2s", key.display());
    let Some(node) = node(&["--auth-token", &token]).await else {
        return;
    };
    protect(&node);
    let root = client(&as_user(&node, "root", "p4ss")).await;
    let begun = Instant::now();
    while begun.elapsed() < 5 * SECOND {
        root.put("k", Repeat::Never).await.unwrap();
        sleep(SECOND / 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_proves_both_sides() {
    let Some((node, authority)) = secure_node().await else {
        return;
    };
    let identity = authority.certify(&["client"]);
    let right = Settings {
        tls_ca: authority.pem.clone(),
        tls_cert: identity.chain.clone(),
        tls_cert_key: Secret::new(identity.key.clone()),
        ..settings([&node])
    };
    client(&right).await.put("k", Repeat::Never).await.unwrap();

    let stranger = layotto_testkit::certificates::Authority::new();
    let wrong_authority = Settings {
        tls_ca: stranger.pem.clone(),
        tls_cert: identity.chain.clone(),
        tls_cert_key: Secret::new(identity.key.clone()),
        ..settings([&node])
    };
    let no_identity = Settings {
        tls_ca: authority.pem.clone(),
        ..settings([&node])
    };
    let no_tls = settings([&node]);
    for wrong in [&wrong_authority, &no_identity, &no_tls] {
        let client = client(wrong).await;
        let error = timeout(10 * SECOND, client.get("k")).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let unverified = Settings {
        tls_skip_verify: true,
        ..wrong_authority
    };
    client(&unverified).await.get("k").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_certificates_are_read_again_for_a_new_connection() {
    let Some((mut node, authority)) = secure_node().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = ["ca", "certificate", "key"].map(|name| folder.path().join(name));
    let write = |authority_pem: &str| {
        let identity = authority.certify(&["client"]);
        std::fs::write(&ca, authority_pem).unwrap();
        std::fs::write(&certificate, identity.chain).unwrap();
        std::fs::write(&key, identity.key).unwrap();
    };
    write(&layotto_testkit::certificates::Authority::new().pem);
    let path = |path: &std::path::Path| path.display().to_string();
    let settings = Settings {
        tls_ca: path(&ca),
        tls_cert: path(&certificate),
        tls_cert_key: Secret::new(path(&key)),
        ..settings([&node])
    };
    let client = client(&settings).await;
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    write(&authority.pem);
    assert!(client.time_until_it_writes().await < SOON);
    node.kill();
}

/// A node that wants a certificate of its clients, and the authority that it trusts.
async fn secure_node() -> Option<(
    layotto_testkit::server::Server,
    layotto_testkit::certificates::Authority,
)> {
    layotto_testkit::needs!(layotto_testkit::server::etcd::PROGRAM, None);
    let authority = layotto_testkit::certificates::Authority::new();
    let node = layotto_testkit::server::etcd::start_secure(&authority)
        .await
        .unwrap();
    Some((node, authority))
}

#[tokio::test]
async fn settings_that_cannot_be_meant_so_are_refused_at_once() {
    let refuse = async |settings: Settings| {
        let refused = Client::shared(&settings, "endpoints", &cx()).await;
        let error = refused.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.message().to_owned()
    };
    let nodes = || Endpoints(vec!["127.0.0.1:2379".to_owned()]);
    let missing = Settings {
        endpoints: nodes(),
        tls_ca: "/no/such/file".to_owned(),
        ..Settings::default()
    };
    assert_eq!(
        refuse(missing).await,
        "tlsCa: neither PEM nor a file that can be read"
    );
    let half = Settings {
        endpoints: nodes(),
        tls_cert: "x".to_owned(),
        ..Settings::default()
    };
    assert_eq!(refuse(half).await, "tlsCertKey: needed by tlsCert");
    assert_eq!(
        refuse(Settings::default()).await,
        "endpoints: expected at least one node"
    );
}
