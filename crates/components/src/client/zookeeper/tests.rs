//! The shared session against a real server: away, killed, frozen; with a login, over TLS.

use layotto_testkit::{
    needs,
    server::{Server, zookeeper},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::*;

mod access;
#[cfg(feature = "zookeeper-tls")]
mod tls;

const BRIEF: Duration = Duration::from_millis(300);
/// Longest wait for what takes milliseconds on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, unless its program is not there.
async fn server() -> Option<Server> {
    needs!(zookeeper::PROGRAM, None);
    Some(zookeeper::start().await.unwrap())
}

fn ensemble(servers: impl ToString) -> Ensemble {
    ensemble_with(servers, Access::default())
}

fn ensemble_with(servers: impl ToString, access: Access) -> Ensemble {
    Ensemble::new(servers.to_string(), Duration::from_secs(5), access)
}

async fn ask(ensemble: &Ensemble) -> Result<()> {
    let stat = ensemble.call(0, |session| async move { session.check_stat("/").await });
    stat.await.map(drop).map_err(Into::into)
}

/// Asks until there is an answer, and says how long it took.
async fn until_answered(ensemble: &Ensemble) -> Duration {
    let begun = Instant::now();
    while let Err(error) = ask(ensemble).await {
        assert!(begun.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn however_many_wait_the_servers_are_tried_seldom() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counting = tokio::spawn(async move {
        let mut tries = 0;
        let counted = async {
            while listener.accept().await.is_ok() {
                tries += 1;
            }
        };
        drop(timeout(Duration::from_secs(2), counted).await);
        tries
    });
    let ensemble = Arc::new(ensemble(address));
    let mut callers = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..50 {
        let ensemble = Arc::clone(&ensemble);
        callers.spawn(async move {
            while begun.elapsed() < Duration::from_secs(2) {
                assert_eq!(ask(&ensemble).await.unwrap_err().kind(), ErrorKind::Unavailable);
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    let tries = counting.await.unwrap();
    callers.abort_all();
    assert!((2..=20).contains(&tries), "{tries} tries in 2 s");
}

#[tokio::test]
async fn servers_that_are_away_are_told_at_once_and_used_as_soon_as_they_are_there() {
    let Some(mut server) = server().await else { return };
    let ensemble = ensemble(server.address());
    server.kill();
    assert_eq!(ask(&ensemble).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let begun = Instant::now();
    assert_eq!(ask(&ensemble).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(begun.elapsed() < BRIEF, "{:?}", begun.elapsed());
    for _ in 0..2 {
        server.resume().await.unwrap();
        let waited = until_answered(&ensemble).await;
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        server.kill();
        assert_eq!(ask(&ensemble).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_frozen_server_end_at_their_deadline_and_leave_nothing_behind() {
    let Some(server) = server().await else { return };
    let ensemble = Arc::new(ensemble(server.address()));
    ask(&ensemble).await.unwrap();
    server.freeze().unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let ensemble = Arc::clone(&ensemble);
        callers.spawn(async move { timeout(BRIEF, ask(&ensemble)).await.is_err() });
    }
    let begun = Instant::now();
    assert_eq!(callers.join_all().await, [true; 50]);
    assert!(begun.elapsed() < 10 * BRIEF, "{:?}", begun.elapsed());
    server.thaw().unwrap();
    until_answered(&ensemble).await;
    let begun = Instant::now();
    while ensemble.room.available_permits() < ROOM as usize {
        assert!(begun.elapsed() < PATIENCE, "requests keep their room");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_ping_opens_no_session_before_the_first_use() {
    let Some(server) = server().await else { return };
    let ensemble = ensemble(server.address());
    ensemble.ping().await.unwrap();
    assert!(ensemble.inner.state().session.is_none());
    ask(&ensemble).await.unwrap();
    ensemble.ping().await.unwrap();
    let away = self::ensemble("127.0.0.1:1");
    assert_eq!(away.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn components_with_the_same_servers_share_the_session() {
    let cx = Context::standalone("test", ".");
    let open = async |servers: &'static str, seconds| {
        let seconds = Duration::from_secs(seconds);
        Ensemble::shared(servers.split(';'), seconds, Access::default(), &cx).await
    };
    let first = open("a:1; b", 5).await.unwrap();
    assert_eq!(first.servers(), "a:1,b:2181");
    assert!(Arc::ptr_eq(&first, &open("a:1;b:2181;", 5).await.unwrap()));
    assert!(!Arc::ptr_eq(&first, &open("a:1;b", 6).await.unwrap()));
    for (servers, seconds) in [
        ("", 5),
        (";", 5),
        ("a:x", 5),
        ("a:0", 5),
        (":1", 5),
        ("a/b", 5),
        ("a", 0),
    ] {
        assert!(open(servers, seconds).await.is_err(), "{servers} {seconds}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_among_others_keeps_no_session_from_being_opened() {
    let Some(server) = server().await else { return };
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = format!("{},{}", silent.local_addr().unwrap(), server.address());
    let ensemble = Arc::new(ensemble(servers));
    // The order of the servers is chosen anew each time.
    let mut openings = JoinSet::new();
    for _ in 0..12 {
        let ensemble = Arc::clone(&ensemble);
        openings.spawn(async move { ensemble.open(Duration::from_secs(60)).await.map(drop) });
    }
    while let Some(opened) = openings.join_next().await {
        opened.unwrap().unwrap();
    }
}

#[tokio::test]
async fn one_server_that_can_be_dialled_is_enough_whatever_those_before_it_do() {
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = silent.listen(1).unwrap();
    let address = silent.local_addr().unwrap();
    // Once so many wait to be accepted the system answers no more.
    let mut waiting = Vec::new();
    while let Ok(dialled) = timeout(BRIEF, TcpStream::connect(address)).await {
        waiting.push(dialled.unwrap());
    }
    let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ensemble = ensemble(format!("{address},{}", there.local_addr().unwrap()));
    timeout(BRIEF, ensemble.ping()).await.unwrap().unwrap();
}
