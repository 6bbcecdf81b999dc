//! Sentinels and clusters.

use super::*;

fn addresses(servers: &[layotto_testkit::server::Server]) -> String {
    let addresses: Vec<_> = servers
        .iter()
        .map(|server| server.address().to_string())
        .collect();
    addresses.join(",")
}

#[tokio::test]
async fn a_failover_is_followed_within_a_second_of_the_promotion() {
    needs!(servers::PROGRAM);
    let mut watched = servers::start_sentinels().await.unwrap();
    // One sentinel is all that the settings know; the others are learnt from it.
    let first = watched.sentinels[0].address().to_string();
    let settings = [
        ("failover", "true"),
        ("sentinelMasterName", servers::PRIMARY_NAME),
    ];
    let client = client(&first, &settings);
    client.say(&["SET", "k", "v"]).await.unwrap();
    let mut wait = command(&["WAIT", "1", "5000"]);
    assert_eq!(client.run("k", &wait.take()).await.unwrap(), Value::Int(1));
    watched.servers[0].kill();
    watched.sentinels[0].kill();
    let replica = watched.servers[1].address();
    let begun = Instant::now();
    while servers::primary(&watched.sentinels[1]).unwrap() != replica
        || !servers::cli(&watched.servers[1], &["role"])
            .unwrap()
            .starts_with("master")
    {
        let Err(error) = client.say(&["SET", "other", "w"]).await else {
            // Another sentinel told the client first.
            break;
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30), "no failover");
        sleep(Duration::from_millis(20)).await;
    }
    let took = until_answered(&client).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(text(&client.say(&["GET", "k"]).await.unwrap()), "v");
    client.say(&["SET", "k", "w"]).await.unwrap();
}

#[tokio::test]
async fn a_primary_that_is_one_no_more_is_left() {
    needs!(servers::PROGRAM);
    let watched = servers::start_sentinels().await.unwrap();
    let settings = [
        ("failover", "true"),
        ("sentinelMasterName", servers::PRIMARY_NAME),
    ];
    let client = client(&addresses(&watched.sentinels), &settings);
    client.say(&["SET", "k", "v"]).await.unwrap();
    let order = ["sentinel", "failover", servers::PRIMARY_NAME];
    servers::cli(&watched.sentinels[0], &order).unwrap();
    let begun = Instant::now();
    let replica = &watched.servers[1];
    let write = async |key| {
        if let Err(error) = client.say(&["SET", key, "v"]).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        sleep(Duration::from_millis(20)).await;
    };
    // The sentinels tell the old primary seconds after the replica; until then it takes writes.
    let old = &watched.servers[0];
    while !servers::cli(old, &["role"]).unwrap().starts_with("slave") {
        write("new").await;
        assert!(begun.elapsed() < Duration::from_secs(30), "no failover");
    }
    let begun = Instant::now();
    while servers::cli(replica, &["exists", "newer"]).unwrap().trim() != "1" {
        write("newer").await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "the old primary is still asked"
        );
    }
}

#[tokio::test]
async fn an_ordered_failover_is_followed_long_before_the_old_primary_is_told() {
    needs!(servers::PROGRAM);
    let watched = servers::start_sentinels().await.unwrap();
    let settings = [
        ("failover", "true"),
        ("sentinelMasterName", servers::PRIMARY_NAME),
    ];
    let client = client(&addresses(&watched.sentinels), &settings);
    client.say(&["SET", "k", "v"]).await.unwrap();
    // Until it hears a sentinel.
    let hears = || {
        let listed = |sentinel| servers::cli(sentinel, &["client", "list"]).unwrap();
        watched
            .sentinels
            .iter()
            .any(|sentinel| listed(sentinel).contains(" sub=1 "))
    };
    let begun = Instant::now();
    while !hears() {
        assert!(begun.elapsed() < Duration::from_secs(20), "no sentinel is heard");
        sleep(Duration::from_millis(20)).await;
    }
    let order = ["sentinel", "failover", servers::PRIMARY_NAME];
    servers::cli(&watched.sentinels[0], &order).unwrap();
    let [old, new] = &watched.servers[..] else {
        panic!("{watched:?}")
    };
    let begun = Instant::now();
    while watched
        .sentinels
        .iter()
        .all(|sentinel| servers::primary(sentinel).unwrap() != new.address())
    {
        assert!(begun.elapsed() < Duration::from_secs(30), "no failover");
        sleep(Duration::from_millis(5)).await;
    }
    let switched = Instant::now();
    while servers::cli(new, &["exists", "newer"]).unwrap().trim() != "1" {
        if let Err(error) = client.say(&["SET", "newer", "v"]).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        assert!(
            switched.elapsed() < Duration::from_secs(5),
            "the old primary is still asked"
        );
        sleep(Duration::from_millis(5)).await;
    }
    eprintln!("followed after {:?}", switched.elapsed());
    let role = servers::cli(old, &["role"]).unwrap();
    assert!(role.starts_with("master"), "the old primary was told: {role}");
    // Nothing is heard any more for nobody.
    drop(client);
    let begun = Instant::now();
    while hears() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "a sentinel is still heard"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_strong_write_is_answered_when_the_replica_has_it() {
    needs!(servers::PROGRAM);
    let mut watched = servers::start_sentinels().await.unwrap();
    let client = client(&watched.servers[0].address().to_string(), &[]);
    while !servers::cli(&watched.servers[0], &["info", "replication"])
        .unwrap()
        .contains("state=online")
    {
        sleep(Duration::from_millis(20)).await;
    }
    let write = Script::new("return redis.call('SET', KEYS[1], ARGV[1])");
    let call = |value: &'static str| Call {
        script: &write,
        keys: vec!["k"],
        arguments: vec![value.as_bytes()],
    };
    for number in 0..20 {
        let value: &'static str = Box::leak(number.to_string().into_boxed_str());
        client.call_replicated(&call(value)).await.unwrap();
        assert_eq!(
            servers::cli(&watched.servers[1], &["get", "k"]).unwrap().trim(),
            value
        );
    }
    watched.servers[1].freeze().unwrap();
    let late = call("late");
    let (strong, weak) = tokio::join!(client.call_replicated(&late), async {
        sleep(Duration::from_millis(100)).await;
        timeout(Duration::from_millis(500), client.say(&["GET", "k"])).await
    });
    let error = strong.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(text(&weak.unwrap().unwrap()), "late", "the others wait with it");
    watched.servers[1].thaw().unwrap();
    // A replica that is gone is not waited for.
    watched.servers[1].kill();
    while !servers::cli(&watched.servers[0], &["info", "replication"])
        .unwrap()
        .contains("connected_slaves:0")
    {
        sleep(Duration::from_millis(20)).await;
    }
    client.call_replicated(&call("alone")).await.unwrap();
}

/// Keys that lie with different servers.
const SPREAD: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[tokio::test]
async fn each_key_goes_to_its_server() {
    needs!(servers::PROGRAM);
    let nodes = servers::start_cluster().await.unwrap();
    let client = client(&nodes[1].address().to_string(), &[("redisType", "cluster")]);
    for key in SPREAD {
        client.say(&["SET", key, key]).await.unwrap();
    }
    let held = |node| {
        servers::cli(node, &["dbsize"])
            .unwrap()
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    assert!(
        nodes.iter().all(|node| held(node) > 0),
        "all keys are at one server"
    );
    let reads = SPREAD.map(|key| (key, vec![command(&["GET", key]), command(&["PTTL", key])]));
    for (key, replies) in SPREAD.iter().zip(client.pipe_each(reads.into()).await) {
        let replies = replies.unwrap();
        assert_eq!((text(&replies[0]), &replies[1]), (*key, &Value::Int(-1)));
    }
    assert!(client.same_slot(["a", "b"].into_iter()).is_err());
    assert!(client.same_slot(["{x}a", "{x}b"].into_iter()).is_ok());
    client.ping().await.unwrap();
}

/// Has `slot` move from one server to another; what lies in it moves in `between`.
fn move_slot(
    from: &layotto_testkit::server::Server,
    to: &layotto_testkit::server::Server,
    slot: u16,
    between: impl FnOnce(),
) {
    let id = |node| {
        servers::cli(node, &["cluster", "myid"])
            .unwrap()
            .trim()
            .to_owned()
    };
    let (source, target, slot) = (id(from), id(to), slot.to_string());
    let set = |node, what: &str, id: &str| {
        servers::cli(node, &["cluster", "setslot", &slot, what, id]).unwrap();
    };
    set(to, "importing", &source);
    set(from, "migrating", &target);
    between();
    set(to, "node", &target);
    set(from, "node", &target);
}

fn migrate(from: &layotto_testkit::server::Server, to: &layotto_testkit::server::Server, key: &str) {
    let port = to.address().port().to_string();
    servers::cli(from, &["migrate", "127.0.0.1", &port, key, "0", "5000"]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_are_followed_while_they_do_and_after() {
    needs!(servers::PROGRAM);
    let nodes = servers::start_cluster().await.unwrap();
    let client = client(&addresses(&nodes), &[("redisType", "cluster")]);
    let (here, there) = ("{moves}here", "{moves}there");
    for key in [here, there] {
        client.say(&["SET", key, "1"]).await.unwrap();
    }
    let holds = |node: &layotto_testkit::server::Server| {
        servers::cli(
            node,
            &["cluster", "countkeysinslot", &slots::of(b"moves").to_string()],
        )
        .is_ok_and(|count| count.trim() == "2")
    };
    let from = nodes.iter().position(holds).unwrap();
    let (from, to) = (&nodes[from], &nodes[(from + 1) % nodes.len()]);
    let count = Script::new("return redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2])");
    let both = Call {
        script: &count,
        keys: vec![here, there],
        arguments: vec![],
    };
    let runtime = tokio::runtime::Handle::current();
    let ask = |words: &[&str]| tokio::task::block_in_place(|| runtime.block_on(client.say(words))).unwrap();
    move_slot(from, to, slots::of(b"moves"), || {
        migrate(from, to, there);
        // One key is still here, the other there, a third nowhere.
        assert_eq!(ask(&["INCR", here]), Value::Int(2));
        assert_eq!(ask(&["INCR", there]), Value::Int(2));
        assert_eq!(ask(&["INCR", "{moves}new"]), Value::Int(1));
        let (counted, ()) = tokio::task::block_in_place(|| {
            runtime.block_on(async {
                tokio::join!(client.call(&both), async {
                    sleep(Duration::from_millis(30)).await;
                    migrate(from, to, here);
                })
            })
        });
        assert_eq!(
            counted.unwrap(),
            Value::Int(6),
            "both keys, once they are in one place"
        );
    });
    for key in [here, there] {
        assert_eq!(client.say(&["INCR", key]).await.unwrap(), Value::Int(4));
    }
    assert_eq!(servers::cli(to, &["get", here]).unwrap().trim(), "4");
    let bulk = [here, there].map(|key| (key, vec![command(&["GET", key])]));
    for replies in client.pipe_each(bulk.into()).await {
        assert_eq!(text(&replies.unwrap()[0]), "4");
    }
}

#[tokio::test]
async fn what_is_left_of_a_cluster_works_on() {
    needs!(servers::PROGRAM);
    let mut nodes = servers::start_cluster().await.unwrap();
    for node in &nodes {
        servers::cli(node, &["config", "set", "cluster-require-full-coverage", "no"]).unwrap();
    }
    let client = client(&addresses(&nodes), &[("redisType", "cluster")]);
    for key in SPREAD {
        client.say(&["SET", key, key]).await.unwrap();
    }
    nodes[0].kill();
    let mut answered = 0;
    for key in SPREAD {
        let asked = Instant::now();
        match client.say(&["GET", key]).await {
            Ok(value) => {
                assert_eq!(text(&value), key);
                answered += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    assert!((1..SPREAD.len()).contains(&answered), "{answered} answers");
}
