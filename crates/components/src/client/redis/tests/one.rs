//! One server.

use super::*;

#[tokio::test]
async fn nothing_is_connected_before_the_first_use_and_one_connection_takes_all_calls() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let accepted = || {
        let told = servers::cli(&server, &["info", "stats"]).unwrap();
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        // One of them is the question's own.
        line.unwrap().trim().parse::<u32>().unwrap() - 1
    };
    let before = accepted();
    let client = client(&server.address().to_string(), &[]);
    assert_eq!(accepted() - before, 1, "the question itself");
    let calls = (0..50).map(|_| client.say(&["INCR", "n"]));
    let mut counted: Vec<_> = futures::future::join_all(calls)
        .await
        .into_iter()
        .map(|reply| reply.unwrap())
        .collect();
    counted.sort_by_key(|value| match value {
        Value::Int(number) => *number,
        other => panic!("{other:?}"),
    });
    assert_eq!(counted, (1..=50).map(Value::Int).collect::<Vec<_>>());
    assert_eq!(accepted() - before, 3, "two questions and one connection");
}

#[tokio::test]
async fn replies_that_are_errors_have_the_kind_that_says_what_to_do() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let client = client(&server.address().to_string(), &[]);
    client.say(&["SET", "k", "v"]).await.unwrap();
    let error = client.say(&["HGET", "k", "f"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(
        error.message(),
        "WRONGTYPE Operation against a key holding the wrong kind of value"
    );
    servers::cli(&server, &["config", "set", "maxmemory", "1"]).unwrap();
    let error = client.say(&["SET", "k2", "v"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    let write = Script::new("redis.call('SET', KEYS[1], 'v')");
    let call = Call {
        script: &write,
        keys: vec!["k2"],
        arguments: vec![],
    };
    let error = client.call(&call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
}

#[tokio::test]
async fn a_script_is_sent_in_full_to_a_server_that_does_not_know_it() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let client = client(&server.address().to_string(), &[]);
    let append = Script::new("return redis.call('RPUSH', KEYS[1], ARGV[1])");
    let calls: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|item| Call {
            script: &append,
            keys: vec!["list"],
            arguments: vec![item.as_bytes()],
        })
        .collect();
    for length in [0, 3] {
        let replies = client.call_each(&calls).await;
        let lengths: Vec<_> = replies.into_iter().map(|reply| reply.unwrap()).collect();
        assert_eq!(lengths, [1, 2, 3].map(|more| Value::Int(length + more)));
    }
    servers::cli(&server, &["script", "flush"]).unwrap();
    assert_eq!(client.call(&calls[0]).await.unwrap(), Value::Int(7));
    let told = servers::cli(&server, &["lrange", "list", "0", "-1"]).unwrap();
    assert_eq!(told.split_whitespace().collect::<String>(), "abcabca");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_within_a_second() {
    needs!(servers::PROGRAM);
    let mut server = servers::start_durable().await.unwrap();
    let client = client(&server.address().to_string(), &[]);
    client.say(&["SET", "k", "v"]).await.unwrap();
    server.kill();
    let begun = Instant::now();
    let mut refused = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        let asked = Instant::now();
        let error = client.say(&["GET", "k"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(
            asked.elapsed() < Duration::from_millis(500),
            "{:?}",
            asked.elapsed()
        );
        refused += 1;
        tokio::task::yield_now().await;
    }
    assert!(refused > 50, "only {refused} calls failed at once");
    server.resume().await.unwrap();
    let took = until_answered(&client).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(text(&client.say(&["GET", "k"]).await.unwrap()), "v");
}

/// Accepts connections and drops them; counts.
pub(super) async fn slammer() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, count)
}

#[tokio::test]
async fn however_many_callers_wait_there_are_at_most_ten_tries_a_second() {
    let (address, tries) = slammer().await;
    let client = Arc::new(client(&address.to_string(), &[]));
    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = Arc::clone(&client);
        callers.spawn(async move {
            while begun.elapsed() < Duration::from_secs(2) {
                let error = client.ping().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    callers.join_all().await;
    let tries = tries.load(Ordering::SeqCst);
    assert!((2..=20).contains(&tries), "{tries} tries in two seconds");
}

#[tokio::test]
async fn callers_of_a_frozen_server_end_at_their_deadlines_and_it_answers_when_it_thaws() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let client = client(
        &server.address().to_string(),
        &[("readTimeout", "1s"), ("dialTimeout", "300ms")],
    );
    client.say(&["SET", "k", "v"]).await.unwrap();
    server.freeze().unwrap();
    let limit = Duration::from_millis(200);
    for _ in 0..3 {
        timeout(limit, client.say(&["GET", "k"])).await.unwrap_err();
    }
    // Then the connection is given up, and nobody waits any more.
    let error = client.say(&["GET", "k"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    while client.say(&["GET", "k"]).await.unwrap_err().message()
        != format!("dial tcp {}: i/o timeout", server.address())
    {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    client.say(&["GET", "k"]).await.unwrap_err();
    assert!(
        asked.elapsed() < Duration::from_millis(400),
        "{:?}",
        asked.elapsed()
    );
    server.thaw().unwrap();
    let took = until_answered(&client).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

// deviation: D087
#[tokio::test]
async fn what_a_lost_connection_owed_is_not_sent_again() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let client = client(&server.address().to_string(), &[]);
    client.ping().await.unwrap();
    // Blocks the server, and with it what comes after.
    let slow = Script::new("redis.call('INCR', KEYS[1]) while redis.call('TIME')[1] < ARGV[1] do end");
    let told = servers::cli(&server, &["time"]).unwrap();
    let later = (told.lines().next().unwrap().parse::<u64>().unwrap() + 2).to_string();
    let call = Call {
        script: &slow,
        keys: vec!["n"],
        arguments: vec![later.as_bytes()],
    };
    let (slow, after) = tokio::join!(client.call(&call), async {
        sleep(Duration::from_millis(100)).await;
        let lost = client.say(&["INCR", "n"]);
        // Kills the connections as soon as the script is through.
        let kill = tokio::task::spawn_blocking({
            let port = server.address().port().to_string();
            move || {
                let cli = programs::find("redis-cli").unwrap();
                let mut kill = std::process::Command::new(cli);
                kill.args(["-p", &port, "client", "kill", "type", "normal"])
                    .output()
                    .unwrap()
            }
        });
        let (lost, _) = tokio::join!(lost, kill);
        lost
    });
    let outcomes = [slow, after];
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let count = servers::cli(&server, &["get", "n"]).unwrap();
    let count: usize = count.trim().parse().unwrap();
    assert!((done..=2).contains(&count), "{count} after {outcomes:?}");
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_and_not_repeated() {
    needs!(servers::PROGRAM);
    let server = servers::start(&["--requirepass", "r1ght"]).await.unwrap();
    let address = server.address().to_string();
    for (password, right) in [("r1ght", true), ("wr0ng", false), ("", false)] {
        let client = client(&address, &[("redisPassword", password)]);
        let answer = client.say(&["SET", "k", "v"]).await;
        if right {
            answer.unwrap();
            continue;
        }
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(!format!("{error:?}").contains("wr0ng"), "{error:?}");
    }
}

#[tokio::test]
async fn a_user_may_do_what_the_access_list_says() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let rights = ["acl", "setuser", "app", "on", ">s3cret", "~app:*", "+get", "+set"];
    servers::cli(&server, &rights).unwrap();
    let login = [("redisUsername", "app"), ("redisPassword", "s3cret")];
    let client = client(&server.address().to_string(), &login);
    client.say(&["SET", "app:k", "v"]).await.unwrap();
    client.ping().await.unwrap();
    let error = client.say(&["SET", "other", "v"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

#[tokio::test]
async fn a_database_is_selected_on_every_connection() {
    needs!(servers::PROGRAM);
    let mut server = servers::start_durable().await.unwrap();
    let client = client(&server.address().to_string(), &[("db", "3")]);
    client.say(&["SET", "k", "v"]).await.unwrap();
    server.kill();
    server.resume().await.unwrap();
    until_answered(&client).await;
    assert_eq!(text(&client.say(&["GET", "k"]).await.unwrap()), "v");
    assert_eq!(servers::cli(&server, &["dbsize"]).unwrap().trim(), "0");
}

#[tokio::test]
async fn a_blocking_read_holds_up_nobody_and_ends_with_its_reader() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let client = client(&server.address().to_string(), &[("readTimeout", "100ms")]);
    let mut own = client.open("list", Duration::from_secs(60)).await.unwrap();
    let pop = command(&["BLPOP", "list", "60"]);
    timeout(Duration::from_millis(300), own.run(&pop))
        .await
        .unwrap_err();
    let blocked = || {
        let told = servers::cli(&server, &["info", "clients"]).unwrap();
        told.contains("blocked_clients:1")
    };
    assert!(blocked());
    client.say(&["SET", "k", "v"]).await.unwrap();
    drop(own);
    while blocked() {
        sleep(Duration::from_millis(5)).await;
    }
    let mut own = client.open("list", Duration::from_secs(60)).await.unwrap();
    let (popped, _) = tokio::join!(own.run(&pop), client.say(&["RPUSH", "list", "item"]));
    assert!(matches!(popped.unwrap(), Value::Array(_)));
}

#[tokio::test]
async fn equal_settings_share_a_client_and_others_do_not() {
    let cx = Context::standalone("test", std::env::temp_dir());
    let open = async |settings: &[(&str, &str)]| {
        let settings = settings.iter().copied().chain([("redisHost", "127.0.0.1:1")]);
        let config: Config = Settings::from_iter(settings).parse().unwrap().config;
        Redis::shared(config.given(&cx).connection(&cx).unwrap(), &cx)
            .await
            .unwrap()
    };
    let first = open(&[("redisPassword", "a")]).await;
    assert!(Arc::ptr_eq(&first, &open(&[("redisPassword", "a")]).await));
    for other in [
        vec![],
        vec![("redisPassword", "b")],
        vec![("redisPassword", "a"), ("db", "1")],
        vec![("redisPassword", "a"), ("redisUsername", "u")],
        vec![("redisPassword", "a"), ("readTimeout", "1s")],
    ] {
        assert!(!Arc::ptr_eq(&first, &open(&other).await), "{other:?}");
    }
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_of_an_answer_counts_as_lost() {
    let server = stand_in::StandIn::start(|command| {
        Some(match command.split(' ').next()? {
            "exists" => ":0\r\n".to_owned(),
            _ => "$5\r\nhal".to_owned(),
        })
    })
    .await;
    let client = client(&server.address.to_string(), &[("readTimeout", "200ms")]);
    let mut own = client.open("list", Duration::from_millis(100)).await.unwrap();
    let (get, pop) = (command(&["GET", "k"]), command(&["BLPOP", "list", "0.1"]));
    let both = async { tokio::join!(client.run("k", &get), own.run(&pop)) };
    let (shared, own) = timeout(Duration::from_secs(3), both).await.unwrap();
    for answer in [shared, own] {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}
