//! Every fault does what it says, and what is healed works again.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::*;
use crate::http_server::{accept, loopback};

/// Longest wait for what should come at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing has to happen until it is taken for never.
const SILENCE: Duration = Duration::from_millis(150);

/// A server that sends back what it gets, and a proxy in front of it.
async fn echo() -> (FaultProxy, AbortOnDropHandle<()>) {
    let (listener, server) = loopback().await;
    let serve = |mut stream: TcpStream| async move {
        let (mut read, mut write) = stream.split();
        drop(tokio::io::copy(&mut read, &mut write).await);
        drop(write.shutdown().await);
    };
    let serving = AbortOnDropHandle::new(tokio::spawn(accept(listener, serve)));
    (FaultProxy::start(server).await.unwrap(), serving)
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// What comes back for `sent`.
async fn exchange(stream: &mut TcpStream, sent: &[u8]) -> Vec<u8> {
    stream.write_all(sent).await.unwrap();
    receive(stream, sent.len()).await
}

async fn receive(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut received = vec![0; count];
    timeout(PATIENCE, stream.read_exact(&mut received))
        .await
        .unwrap()
        .unwrap();
    received
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(SILENCE, stream.read_u8()).await.is_err()
}

/// How a read ends on a connection that is cut.
async fn end(stream: &mut TcpStream) -> std::io::Result<usize> {
    timeout(PATIENCE, stream.read(&mut [0; 64])).await.unwrap()
}

#[tokio::test]
async fn without_faults_everything_gets_through_and_is_counted() {
    let (proxy, _serving) = echo().await;
    let mut stream = connect(&proxy).await;
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
    let (mut read, mut write) = stream.split();
    let mut received = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut received));
    wrote.unwrap();
    read.unwrap();
    assert!(sent == received, "bytes were changed on the way");
    // A byte is counted after it was written.
    let counts = proxy.wait_for(|counts| counts.to_client == 3_000_000).await;
    assert_eq!((counts.live, counts.total, counts.to_server), (1, 1, 3_000_000));
    assert_eq!((counts.turned_away, counts.faults), (0, 0));
    drop(stream);
    proxy.wait_for(|counts| counts.live == 0).await;
}

#[tokio::test]
async fn an_end_is_passed_on_while_the_other_direction_goes_on() {
    let (proxy, _serving) = echo().await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"abc").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(all, b"abc");
    proxy.wait_for(|counts| counts.live == 0).await;
}

#[tokio::test]
async fn a_shut_door_refuses_and_leaves_live_connections_alone() {
    let (proxy, _serving) = echo().await;
    let mut live = connect(&proxy).await;
    exchange(&mut live, b"a").await;
    for _ in 0..3 {
        proxy.set(Faults::door(Door::Shut)).await;
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(exchange(&mut live, b"b").await, b"b");
        proxy.heal().await;
        assert_eq!(exchange(&mut connect(&proxy).await, b"c").await, b"c");
    }
    assert_eq!(proxy.counts().faults, 3);
}

#[tokio::test]
async fn a_slamming_door_accepts_and_resets() {
    let (proxy, _serving) = echo().await;
    proxy.set(Faults::door(Door::Slams)).await;
    let error = end(&mut connect(&proxy).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(
        (proxy.counts().turned_away, proxy.counts().total),
        (1, 0),
        "{:?}",
        proxy.counts()
    );
    proxy.heal().await;
    assert_eq!(exchange(&mut connect(&proxy).await, b"c").await, b"c");
}

#[tokio::test]
async fn a_server_that_is_away_resets_the_client() {
    let proxy = FaultProxy::start(free_address()).await.unwrap();
    let error = end(&mut connect(&proxy).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.counts().turned_away, 1);
}

#[tokio::test]
async fn later_clients_go_where_the_proxy_is_redirected() {
    let proxy = FaultProxy::start(free_address()).await.unwrap();
    let (listener, server) = loopback().await;
    proxy.redirect(server);
    let mut client = connect(&proxy).await;
    let (mut accepted, _) = listener.accept().await.unwrap();
    client.write_all(b"there").await.unwrap();
    assert_eq!(receive(&mut accepted, 5).await, b"there");
}

#[tokio::test]
async fn a_reset_reaches_both_ends_of_live_connections_only() {
    let (listener, server) = loopback().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut client = connect(&proxy).await;
    let (mut accepted, _) = listener.accept().await.unwrap();
    proxy.wait_for(|counts| counts.live == 1).await;
    proxy.reset();
    for stream in [&mut client, &mut accepted] {
        assert_eq!(end(stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let mut client = connect(&proxy).await;
    let (mut accepted, _) = listener.accept().await.unwrap();
    client.write_all(b"later").await.unwrap();
    assert_eq!(receive(&mut accepted, 5).await, b"later");
}

#[tokio::test]
async fn a_reset_by_one_end_is_a_reset_for_the_other() {
    let (listener, server) = loopback().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut client = connect(&proxy).await;
    let (accepted, _) = listener.accept().await.unwrap();
    proxy.wait_for(|counts| counts.live == 1).await;
    accepted.set_zero_linger().unwrap();
    drop(accepted);
    assert_eq!(
        end(&mut client).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_half_close_ends_one_direction() {
    let (listener, server) = loopback().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    for direction in [Direction::ToServer, Direction::ToClient] {
        let mut client = connect(&proxy).await;
        let (mut accepted, _) = listener.accept().await.unwrap();
        proxy.wait_for(|counts| counts.live == 1).await;
        let (deaf, other) = match direction {
            Direction::ToServer => (&mut accepted, &mut client),
            Direction::ToClient => (&mut client, &mut accepted),
        };
        proxy.half_close(direction);
        assert_eq!(end(deaf).await.unwrap(), 0, "{direction:?}");
        deaf.write_all(b"still").await.unwrap();
        assert_eq!(receive(other, 5).await, b"still", "{direction:?}");
        other.write_all(b"lost").await.unwrap();
        assert_eq!(end(deaf).await.unwrap(), 0, "{direction:?}");
        drop((client, accepted));
        proxy.wait_for(|counts| counts.live == 0).await;
    }
}

#[tokio::test]
async fn a_blackhole_accepts_and_gives_everything_back_when_healed() {
    let (proxy, _serving) = echo().await;
    let mut before = connect(&proxy).await;
    exchange(&mut before, b"a").await;
    proxy.set(Faults::blackhole()).await;
    let mut during = connect(&proxy).await;
    for stream in [&mut before, &mut during] {
        stream.write_all(b"kept").await.unwrap();
        assert!(is_silent(stream).await);
    }
    proxy.heal().await;
    for stream in [&mut before, &mut during] {
        assert_eq!(receive(stream, 4).await, b"kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_back_does_not_outlive_a_reset() {
    let (proxy, _serving) = echo().await;
    let swallowed = Flow {
        stops_after: Some(0),
        ..Flow::default()
    };
    for round in 1..=100 {
        let mut stream = connect(&proxy).await;
        exchange(&mut stream, b"a").await;
        let faults = Faults {
            to_client: swallowed,
            ..Faults::default()
        };
        proxy.set(faults).await;
        let before = proxy.counts().to_server;
        stream.write_all(b"lost").await.unwrap();
        proxy.wait_for(|counts| counts.to_server == before + 4).await;
        proxy.reset();
        proxy.heal().await;
        assert!(end(&mut stream).await.is_err(), "round {round}");
    }
}

#[tokio::test]
async fn a_direction_stops_in_the_middle_of_a_message() {
    let (proxy, _serving) = echo().await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, b"first").await;
    let stops = Flow {
        stops_after: Some(3),
        ..Flow::default()
    };
    proxy
        .set(Faults {
            to_client: stops,
            ..Faults::default()
        })
        .await;
    stream.write_all(b"second").await.unwrap();
    assert_eq!(receive(&mut stream, 3).await, b"sec");
    assert!(is_silent(&mut stream).await);
    let mut later = connect(&proxy).await;
    later.write_all(b"third").await.unwrap();
    assert_eq!(receive(&mut later, 3).await, b"thi");
    proxy.heal().await;
    assert_eq!(receive(&mut stream, 3).await, b"ond");
    assert_eq!(receive(&mut later, 2).await, b"rd");
}

#[tokio::test]
async fn delay_holds_for_the_direction_it_is_put_on() {
    let (listener, server) = loopback().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut client = connect(&proxy).await;
    let (mut accepted, _) = listener.accept().await.unwrap();
    let delay = Duration::from_millis(400);
    let late = Flow {
        delay,
        ..Flow::default()
    };
    proxy
        .set(Faults {
            to_server: late,
            ..Faults::default()
        })
        .await;
    let begun = Instant::now();
    client.write_all(b"late").await.unwrap();
    accepted.write_all(b"soon").await.unwrap();
    let after = async |stream: &mut TcpStream| {
        receive(stream, 4).await;
        begun.elapsed()
    };
    let (soon, late) = tokio::join!(after(&mut client), after(&mut accepted));
    assert!(late >= delay && soon < late, "{soon:?}, {late:?}");
}

#[tokio::test]
async fn delayed_bytes_are_late_and_not_slow() {
    let (proxy, _serving) = echo().await;
    let mut stream = connect(&proxy).await;
    let delay = Duration::from_millis(300);
    proxy.set(Faults::delay(delay)).await;
    let begun = Instant::now();
    for part in 0..10 {
        stream.write_all(&[part; 100]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    receive(&mut stream, 1000).await;
    let took = begun.elapsed();
    // One delay after another would take ten times as long.
    assert!(took >= 2 * delay && took < 6 * delay, "{took:?}");
}

#[tokio::test]
async fn slow_connections_forward_at_their_rate() {
    let (proxy, _serving) = echo().await;
    let mut stream = connect(&proxy).await;
    proxy.set(Faults::slow(NonZeroU32::new(2000).unwrap())).await;
    let begun = Instant::now();
    exchange(&mut stream, &[7; 600]).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    stream.write_all(&[7; 100_000]).await.unwrap();
    proxy.heal().await;
    receive(&mut stream, 100_000).await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "what waited went on slowly"
    );
}

#[tokio::test]
async fn many_connections_are_cut_and_come_back() {
    let (proxy, _serving) = echo().await;
    for round in 1..=3 {
        let mut streams = Vec::new();
        for _ in 0..50 {
            let mut stream = connect(&proxy).await;
            exchange(&mut stream, b"x").await;
            streams.push(stream);
        }
        proxy.reset();
        let mut ends = JoinSet::new();
        for mut stream in streams {
            ends.spawn(async move { end(&mut stream).await.unwrap_err().kind() });
        }
        assert_eq!(ends.join_all().await, [ErrorKind::ConnectionReset; 50]);
        let counts = proxy.wait_for(|counts| counts.live == 0).await;
        assert_eq!(counts.total, 50 * round);
    }
}

#[tokio::test]
async fn dropping_the_proxy_ends_its_port_and_connections() {
    let (proxy, _serving) = echo().await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, b"x").await;
    let address = proxy.address();
    drop(proxy);
    assert!(matches!(end(&mut stream).await, Ok(0) | Err(_)));
    let shut = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, shut).await.unwrap();
}
