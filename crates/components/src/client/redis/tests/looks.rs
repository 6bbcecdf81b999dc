//! When the servers of a cluster are asked for the slots anew, and who is asked.

use std::sync::{Mutex, OnceLock};

use super::{stand_in::StandIn, *};

const CLUSTER: [(&str, &str); 1] = [("redisType", "cluster")];
const DOWN: &str = "CLUSTERDOWN Hash slot not served";

/// The answer to `CLUSTER SLOTS` where the servers at `ports` have the slots, each about as many.
fn slots_at(ports: &[u16]) -> String {
    let each = 16_384 / ports.len();
    let ranges = ports.iter().enumerate().map(|(at, port)| {
        let last = match at + 1 == ports.len() {
            true => 16_383,
            false => (at + 1) * each - 1,
        };
        let first = at * each;
        format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n")
    });
    format!("*{}\r\n{}", ports.len(), ranges.collect::<String>())
}

/// A server that says that those at `ports` have the slots, and which has no keys.
async fn server(ports: impl Fn() -> Vec<u16> + Send + Sync + 'static, got: &'static str) -> StandIn {
    StandIn::start(move |command| match command.split(' ').next()? {
        "cluster" => Some(slots_at(&ports())),
        _ => Some(got.to_owned()),
    })
    .await
}

#[tokio::test]
async fn a_server_that_serves_a_slot_no_more_has_the_slots_looked_at_anew() {
    let other = server(Vec::new, "$1\r\nv\r\n").await;
    // It is told of before it is known where it listens.
    let (own, asked) = (Arc::new(OnceLock::new()), AtomicUsize::new(0));
    let (known, port) = (Arc::clone(&own), other.address.port());
    let ports = move || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => known.get().copied().into_iter().collect(),
        _ => vec![port],
    };
    let down = server(ports, "-CLUSTERDOWN Hash slot not served\r\n").await;
    own.set(down.address.port()).unwrap();
    let client = client(&down.address.to_string(), &CLUSTER);
    let took = until_answered(&client).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn where_the_slot_has_no_other_server_the_answer_is_the_servers_own() {
    let own = Arc::new(OnceLock::new());
    let known = Arc::clone(&own);
    let ports = move || known.get().copied().into_iter().collect();
    let down = server(ports, "-CLUSTERDOWN Hash slot not served\r\n").await;
    own.set(down.address.port()).unwrap();
    let client = client(&down.address.to_string(), &CLUSTER);
    for _ in 0..3 {
        let error = client.say(&["GET", "k"]).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, DOWN));
    }
}

#[tokio::test]
async fn all_that_is_known_or_given_is_asked_for_the_slots() {
    let mut gone = Vec::new();
    for _ in 0..7 {
        gone.push(one::slammer().await.0.port());
    }
    // Seven servers have the slots, and are gone when they are needed.
    let told = Arc::new(Mutex::new(gone));
    let telling = Arc::clone(&told);
    let given = server(move || telling.lock().unwrap().clone(), "$1\r\nv\r\n").await;
    let client = client(&given.address.to_string(), &CLUSTER);
    let error = client.say(&["GET", "k"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    *told.lock().unwrap() = vec![given.address.port()];
    let took = until_answered(&client).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}
