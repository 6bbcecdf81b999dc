//! Sentinels that hang, and switches that nobody hears of.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use layotto_testkit::{
    fault_proxy::{FaultProxy, Faults},
    server::Server,
};

use super::{
    stand_in::{StandIn, list, subscribed},
    *,
};

/// How long it may take until another sentinel is heard than one that stopped to answer: until it is
/// asked, until it should have answered, and until the next one is tried.
const ANOTHER: Duration = Duration::from_secs(1 + 3 + 1);
/// What a machine that does much else takes longer.
const SLACK: Duration = Duration::from_secs(2);
const CHANNEL: &str = "+switch-master";
const NAME: (&str, &str) = ("sentinelMasterName", servers::PRIMARY_NAME);

/// What a sentinel that knows of no other says of the primary.
fn says(command: &str, primary: SocketAddr, epoch: u64) -> Option<String> {
    let (ip, port) = (primary.ip().to_string(), primary.port().to_string());
    match command.split(' ').nth(1)? {
        "get-master-addr-by-name" => Some(list(&[&ip, &port])),
        "master" => Some(list(&[
            "ip",
            &ip,
            "port",
            &port,
            "config-epoch",
            &epoch.to_string(),
        ])),
        "sentinels" => Some(list(&[])),
        _ => None,
    }
}

/// Writes until `server` has it.
async fn until_it_writes_to(client: &Redis, server: &Server, within: Duration) {
    let begun = Instant::now();
    while servers::cli(server, &["exists", "newer"]).unwrap().trim() != "1" {
        if let Err(error) = client.say(&["SET", "newer", "v"]).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        assert!(begun.elapsed() < within, "another server is asked");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_switch_before_a_sentinel_is_heard_is_not_missed() {
    needs!(servers::PROGRAM);
    let (old, new) = (
        servers::start(&[]).await.unwrap(),
        servers::start(&[]).await.unwrap(),
    );
    let [before, after] = [&old, &new].map(Server::address);
    // It switches while it is being subscribed to, and says so to nobody.
    let switched = AtomicBool::new(false);
    let sentinel = StandIn::start(move |command| {
        if command.starts_with("subscribe") {
            switched.store(true, Ordering::SeqCst);
            return Some(subscribed(CHANNEL));
        }
        match switched.load(Ordering::SeqCst) {
            false => says(command, before, 1),
            true => says(command, after, 2),
        }
    })
    .await;
    let client = client(&sentinel.address.to_string(), &[("failover", "true"), NAME]);
    until_answered(&client).await;
    until_it_writes_to(&client, &new, SLACK).await;
}

#[tokio::test]
async fn a_sentinel_that_does_not_let_itself_be_heard_is_left_for_another() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let primary = server.address();
    let silent = StandIn::start(move |command| says(command, primary, 1)).await;
    let is_heard = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&is_heard);
    let other = StandIn::start(move |command| {
        if command.starts_with("subscribe") {
            heard.store(true, Ordering::SeqCst);
            return Some(subscribed(CHANNEL));
        }
        says(command, primary, 1)
    })
    .await;
    let both = format!("{},{}", silent.address, other.address);
    // Answers of the servers may be owed for ever; those of sentinels may not.
    let settings = [("failover", "true"), NAME, ("readTimeout", "-1")];
    let client = client(&both, &settings);
    until_answered(&client).await;
    let begun = Instant::now();
    while !is_heard.load(Ordering::SeqCst) {
        assert!(begun.elapsed() < ANOTHER + SLACK, "the silent one is waited for");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_sentinel_that_hangs_holds_up_no_call_and_is_left_for_another() {
    needs!(servers::PROGRAM);
    let watched = servers::start_sentinels().await.unwrap();
    let proxy = FaultProxy::start(watched.sentinels[0].address()).await.unwrap();
    let settings = [("failover", "true"), NAME];
    // The others are learnt from the one behind the proxy.
    let first = client(&proxy.address().to_string(), &settings);
    until_answered(&first).await;
    let hears = |sentinel: &Server| {
        let told = servers::cli(sentinel, &["client", "list"]).unwrap();
        told.contains(" sub=1 ")
    };
    let begun = Instant::now();
    while !hears(&watched.sentinels[0]) {
        assert!(begun.elapsed() < ANOTHER + SLACK, "no sentinel is heard");
        sleep(Duration::from_millis(20)).await;
    }
    proxy.set(Faults::blackhole()).await;
    let begun = Instant::now();
    while !watched.sentinels[1..].iter().any(hears) {
        assert!(
            begun.elapsed() < ANOTHER + SLACK,
            "the one that hangs is waited for"
        );
        first.say(&["GET", "k"]).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    eprintln!("another sentinel is heard after {:?}", begun.elapsed());
    // Who begins now asks both, and takes the answer that comes.
    let both = format!("{},{}", proxy.address(), watched.sentinels[1].address());
    let begun = Instant::now();
    client(&both, &settings).say(&["GET", "k"]).await.unwrap();
    assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
    let order = ["sentinel", "failover", servers::PRIMARY_NAME];
    servers::cli(&watched.sentinels[1], &order).unwrap();
    until_it_writes_to(&first, &watched.servers[1], Duration::from_secs(30)).await;
}

#[tokio::test]
async fn a_failover_is_followed_while_the_old_primary_is_still_dialled() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let new = server.address();
    // Takes connections and says nothing, as long as a dial may take.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let old = gone.local_addr().unwrap();
    let asked = AtomicUsize::new(0);
    let sentinel = StandIn::start(move |command| {
        if command.starts_with("subscribe") {
            return Some(subscribed(CHANNEL));
        }
        let is_first = match command.contains("get-master-addr-by-name") {
            true => asked.fetch_add(1, Ordering::SeqCst) == 0,
            false => asked.load(Ordering::SeqCst) == 1,
        };
        match is_first {
            true => says(command, old, 1),
            false => says(command, new, 2),
        }
    })
    .await;
    let client = client(&sentinel.address.to_string(), &[("failover", "true"), NAME]);
    let took = until_answered(&client).await;
    assert!(took < SLACK, "{took:?}");
}

#[tokio::test]
async fn a_slow_sentinel_is_heard_of_a_failover_beside_one_that_hangs() {
    /// Thrice there and back for each question.
    const DELAY: Duration = Duration::from_millis(100);
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let new = server.address();
    // Takes connections and says nothing, as a server and as a sentinel.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let old = gone.local_addr().unwrap();
    let asked = AtomicUsize::new(0);
    let sentinel = StandIn::start(move |command| {
        if command.starts_with("subscribe") {
            return Some(subscribed(CHANNEL));
        }
        if command.contains("get-master-addr-by-name") {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        match asked.load(Ordering::SeqCst) <= 2 {
            true => says(command, old, 1),
            false => says(command, new, 2),
        }
    })
    .await;
    let slow = FaultProxy::start(sentinel.address).await.unwrap();
    slow.set(Faults::delay(DELAY)).await;
    let both = format!("{},{old}", slow.address());
    let settings = [
        ("failover", "true"),
        NAME,
        ("dialTimeout", "15s"),
        ("readTimeout", "-1"),
    ];
    let took = until_answered(&client(&both, &settings)).await;
    assert!(took < 24 * DELAY + SLACK, "{took:?}");
}
