//! The pool against a real server: away, killed, frozen, full, and one that refuses.

mod tls;

use std::sync::atomic::{AtomicUsize, Ordering};

use layotto_testkit::{
    needs,
    server::{Server, postgres},
};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use super::*;

/// A deadline of a caller.
const BRIEF: Duration = Duration::from_millis(300);
/// Longest wait for what takes milliseconds on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, unless its programs are not there.
async fn server(arguments: &[&str]) -> Option<Server> {
    needs!(postgres::PROGRAM, None);
    Some(postgres::start(arguments).await.unwrap())
}

fn pool(connection_string: &str, most: usize) -> Pool {
    let cx = Context::standalone("test", ".");
    Pool::new(ConnInfo::parse(connection_string, &cx).unwrap(), most)
}

async fn answer(pool: &Pool) -> Result<i32> {
    let mut lease = pool.lease().await?;
    let answer = sqlx::query_scalar("select 42")
        .fetch_one(lease.connection())
        .await;
    lease.settle(answer)
}

/// Asks until there is an answer, and says how long it took.
async fn until_answered(pool: &Pool) -> Duration {
    let begun = Instant::now();
    while let Err(error) = answer(pool).await {
        assert!(begun.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// Connections of clients, seen from the server.
fn clients(server: &Server) -> usize {
    let count = "select count(*) - 1 from pg_stat_activity where backend_type = 'client backend'";
    postgres::psql(server, count).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn however_many_wait_the_server_is_tried_seldom() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let pool = Arc::new(pool(&format!("postgres://u@{address}/d?sslmode=disable"), 20));
    let mut callers = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..50 {
        let pool = Arc::clone(&pool);
        callers.spawn(async move {
            while begun.elapsed() < Duration::from_secs(2) {
                assert_eq!(answer(&pool).await.unwrap_err().kind(), ErrorKind::Unavailable);
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    callers.join_all().await;
    let tries = tries.load(Ordering::SeqCst);
    assert!((2..=20).contains(&tries), "{tries} tries in 2 s");
}

#[tokio::test]
async fn a_server_that_is_away_is_told_at_once_and_used_as_soon_as_it_is_there() {
    let Some(mut server) = server(&[]).await else {
        return;
    };
    let pool = pool(&postgres::url(&server), 3);
    server.kill();
    let error = answer(&pool).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let begun = Instant::now();
    assert_eq!(answer(&pool).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "{:?}",
        begun.elapsed()
    );

    server.resume().await.unwrap();
    let waited = until_answered(&pool).await;
    assert!(waited < Duration::from_secs(1), "{waited:?}");

    // Killed in use: all three connections break, and none of them fails a call later.
    let leases = [pool.lease().await.unwrap(), pool.lease().await.unwrap()];
    for lease in leases {
        lease.settle(Ok::<_, Failure>(())).unwrap();
    }
    server.kill();
    assert_eq!(answer(&pool).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.resume().await.unwrap();
    let waited = until_answered(&pool).await;
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    for _ in 0..10 {
        answer(&pool).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_frozen_server_end_at_their_deadline_and_leave_nothing_behind() {
    let Some(server) = server(&[]).await else { return };
    let pool = Arc::new(pool(&postgres::url(&server), 5));
    answer(&pool).await.unwrap();
    server.freeze().unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let pool = Arc::clone(&pool);
        callers.spawn(async move { timeout(BRIEF, answer(&pool)).await.map(drop) });
    }
    let begun = Instant::now();
    let ended = callers.join_all().await;
    assert!(ended.iter().all(Result::is_err), "answered while frozen");
    assert!(begun.elapsed() < 10 * BRIEF, "{:?}", begun.elapsed());

    server.thaw().unwrap();
    let waited = until_answered(&pool).await;
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    for _ in 0..20 {
        assert_eq!(answer(&pool).await.unwrap(), 42);
    }
    assert_eq!(pool.inner.state().leased, 0);
    assert_eq!(pool.places.available_permits(), 5);
    assert!(clients(&server) <= 5);
}

/// The outcome of a call that was given up is never taken for that of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_given_up_at_any_moment_leave_no_outcome_behind() {
    let Some(server) = server(&[]).await else { return };
    let pool = pool(&postgres::url(&server), 1);
    let ask = async |question: &'static str, number: i32| {
        let mut lease = pool.lease().await?;
        let answer = sqlx::query_scalar(question)
            .bind(number)
            .fetch_one(lease.connection())
            .await;
        lease.settle::<i32>(answer)
    };
    let mut given_up = 0;
    for number in 1..300 {
        let patience = Duration::from_micros(u64::try_from(number).unwrap() * 10);
        given_up += usize::from(timeout(patience, ask("select 1 / $1", 0)).await.is_err());
        assert_eq!(ask("select $1", number).await.unwrap(), number);
    }
    assert!(given_up > 0);
}

#[tokio::test]
async fn a_call_that_is_given_up_stops_on_the_server_too() {
    let Some(server) = server(&[]).await else { return };
    let pool = pool(&postgres::url(&server), 1);
    let mut lease = pool.lease().await.unwrap();
    let long = sqlx::query("select pg_sleep(50)").execute(lease.connection());
    assert!(timeout(BRIEF, long).await.is_err());
    assert_eq!(clients(&server), 1);
    drop(lease);
    let begun = Instant::now();
    while clients(&server) > 0 {
        assert!(begun.elapsed() < PATIENCE, "the statement goes on");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_without_room_is_shared_with_those_who_wait() {
    let Some(server) = server(&[]).await else { return };
    postgres::psql(&server, "create role app login connection limit 2").unwrap();
    let url = format!("postgres://app@{}/postgres", server.address());
    let (first, second) = (Arc::new(pool(&url, 5)), pool(&url, 5));
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let first = Arc::clone(&first);
        callers.spawn(async move { answer(&first).await.unwrap() });
    }
    assert_eq!(callers.join_all().await, [42; 20]);

    let held = [first.lease().await.unwrap(), first.lease().await.unwrap()];
    let error = answer(&second).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("too many connections"), "{error}");
    drop(held);
    until_answered(&second).await;
}

#[tokio::test]
async fn a_refused_login_is_told_as_such_and_without_the_password() {
    let Some(server) = server(&[]).await else { return };
    postgres::psql(&server, "create role app login password 'right'").unwrap();
    let rules = "host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
    std::fs::write(server.dir().join("data/pg_hba.conf"), rules).unwrap();
    postgres::psql(&server, "select pg_reload_conf()").unwrap();
    let url = |password: &str| format!("postgres://app:{password}@{}/postgres", server.address());
    until_answered(&pool(&url("right"), 1)).await;
    let error = answer(&pool(&url("hush"), 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert!(!format!("{error} {error:?}").contains("hush"));
    let error = answer(&pool("postgres://postgres@127.0.0.1:1/x", 1))
        .await
        .unwrap_err();
    assert!(error.message().contains("127.0.0.1:1"), "{error}");
    let absent = format!("postgres://postgres@{}/absent", server.address());
    assert_eq!(
        answer(&pool(&absent, 1)).await.unwrap_err().kind(),
        ErrorKind::FailedPrecondition
    );
}

#[tokio::test]
async fn components_with_one_connection_string_share_the_connections() {
    let cx = Context::standalone("test", ".");
    let open = async |text: &str, most: u16| {
        let settings = Settings {
            connection_string: Secret::new(text.to_owned()),
            max_conns: MaxConns(NonZeroU16::new(most).unwrap()),
        };
        Pool::shared(&settings, &cx).await.unwrap()
    };
    let first = open("host=a password=hush", 3).await;
    assert!(Arc::ptr_eq(&first, &open("host=a password=hush", 3).await));
    assert!(!Arc::ptr_eq(&first, &open("host=a password=hush", 4).await));
    assert!(!Arc::ptr_eq(&first, &open("host=a password=other", 3).await));
    assert!(!format!("{:?}", cx.shared).contains("hush"));
}
