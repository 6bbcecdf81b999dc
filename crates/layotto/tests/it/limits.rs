//! Bounds: cancelled calls leave nothing behind, and a client that does not read costs little.

use std::{
    fs,
    time::{Duration, Instant},
};

use layotto_proto::runtime::v1::{
    CommonInvokeRequest, GetStateRequest, InvokeServiceRequest, PublishEventRequest, SayHelloRequest,
    SubscribeTopicEventsRequest, SubscribeTopicEventsRequestInitial,
    subscribe_topic_events_request::SubscribeTopicEventsRequestType,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    lifecycle::client,
    sidecar::{PATIENCE, Sidecar, config, free_port, say},
};

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(20);

/// How much a client that does not read may cost.
const WINDOW: u64 = 16 << 20;

fn open_files(process: &Sidecar) -> usize {
    fs::read_dir(format!("/proc/{}/fd", process.pid()))
        .unwrap()
        .count()
}

/// Resident memory, in bytes, without pages of files: code is let go of after the start, and comes back
/// with the first calls that need it.
pub fn resident(process: &Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A back end that accepts and never answers; counts the connections that are open.
async fn black_hole() -> (u16, tokio::sync::watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (count, open) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.send_modify(|open| *open += 1);
            let count = count.clone();
            tokio::spawn(async move {
                // Reads to the end: the peer closed.
                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
                count.send_modify(|open| *open -= 1);
            });
        }
    });
    (port, open)
}

#[tokio::test]
async fn calls_cancelled_into_a_black_hole_leave_nothing_behind() {
    let (hole, mut open) = black_hole().await;
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let invoker = json!({"rpcs": {"mosn": {"config": {"channel": [
        {"protocol": "http", "listener": format!("127.0.0.1:{hole}"), "size": 64}]}}}});
    let mut process = Sidecar::with_config(folder.path(), &config(port, free_port(), &invoker), &[]);
    assert!(process.wait_for_port(port));
    let caller = client(port).await;
    // Answered, so that the connection is open for sure.
    caller
        .clone()
        .get_state(GetStateRequest::default())
        .await
        .unwrap_err();
    let baseline = open_files(&process);
    let calls = (0..50).map(|_| {
        let mut caller = caller.clone();
        let message = CommonInvokeRequest {
            method: "/x".into(),
            ..Default::default()
        };
        let request = InvokeServiceRequest {
            id: "svc".into(),
            message: Some(message),
        };
        // Dropping the call resets its stream.
        async move {
            tokio::time::timeout(Duration::from_millis(100), caller.invoke_service(request))
                .await
                .is_err()
        }
    });
    let cancelled = futures::future::join_all(calls).await;
    let begun = Instant::now();
    assert!(cancelled.iter().all(|cancelled| *cancelled));
    tokio::time::timeout(Duration::from_secs(1), open.wait_for(|open| *open == 0))
        .await
        .unwrap()
        .unwrap();
    while open_files(&process) > baseline {
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{} files, {baseline} before",
            open_files(&process)
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_deadline_stops_the_work() {
    let (hole, mut open) = black_hole().await;
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let invoker = json!({"rpcs": {"mosn": {"config": {"channel": [
        {"protocol": "http", "listener": format!("127.0.0.1:{hole}"), "size": 4}]}}}});
    let mut process = Sidecar::with_config(folder.path(), &config(port, free_port(), &invoker), &[]);
    assert!(process.wait_for_port(port));
    let mut caller = client(port).await;
    let message = CommonInvokeRequest {
        method: "/x".into(),
        ..Default::default()
    };
    let mut request = tonic::Request::new(InvokeServiceRequest {
        id: "svc".into(),
        message: Some(message),
    });
    request.set_timeout(Duration::from_millis(200));
    let call = tokio::spawn(async move { caller.invoke_service(request).await });
    let wait = |count: usize| move |open: &usize| *open == count;
    tokio::time::timeout(PATIENCE, open.wait_for(wait(1)))
        .await
        .unwrap()
        .unwrap();
    call.await.unwrap().unwrap_err();
    tokio::time::timeout(Duration::from_secs(1), open.wait_for(wait(0)))
        .await
        .unwrap()
        .unwrap();
}

/// Publishes as fast as it goes, for `time`, while a subscriber reads nothing; returns the growth.
async fn flood(kind: &str, time: Duration) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let pubsub = json!({"pub_subs": {"p": {"type": kind, "metadata": {}}}});
    let mut process = Sidecar::with_config(folder.path(), &config(port, free_port(), &pubsub), &[]);
    assert!(process.wait_for_port(port));
    let mut subscriber = client(port).await;
    let (sender, requests) = mpsc::channel(1);
    let initial = SubscribeTopicEventsRequestInitial {
        pubsub_name: "p".into(),
        topic: "t".into(),
        ..Default::default()
    };
    let kind = SubscribeTopicEventsRequestType::InitialRequest(initial);
    let request = SubscribeTopicEventsRequest {
        subscribe_topic_events_request_type: Some(kind),
    };
    sender.send(request).await.unwrap();
    // Held, never read.
    let _events = subscriber
        .subscribe_topic_events(ReceiverStream::new(requests))
        .await
        .unwrap();
    let baseline = resident(&process);
    let begun = Instant::now();
    let publishers = (0..16).map(|_| publish_until(port, begun + time));
    let mut publishers = std::pin::pin!(futures::future::join_all(publishers));
    let mut highest = baseline;
    let published = loop {
        tokio::select! {
            counts = &mut publishers => break counts.iter().sum::<u64>(),
            () = tokio::time::sleep(SAMPLE) => highest = highest.max(resident(&process)),
        }
    };
    assert!(published > 0);
    (published, highest.saturating_sub(baseline))
}

async fn publish_until(port: u16, end: Instant) -> u64 {
    let mut publisher = client(port).await;
    let mut published = 0;
    while Instant::now() < end {
        let request = PublishEventRequest {
            pubsub_name: "p".into(),
            topic: "t".into(),
            data: vec![b'x'; 1024].into(),
            data_content_type: "text/plain".into(),
            ..Default::default()
        };
        match publisher.publish_event(request).await {
            Ok(_) => published += 1,
            Err(status) => assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}"),
        }
    }
    published
}

async fn a_flood_is_bounded(time: Duration) {
    for kind in ["in-memory", "embedded"] {
        let (published, growth) = flood(kind, time).await;
        say(format_args!(
            "{kind}: {published} events in {time:?}, resident memory grew by {} KiB",
            growth / 1024
        ));
        assert!(growth <= WINDOW, "{kind}: grew by {growth} bytes");
    }
}

#[tokio::test]
async fn a_subscriber_that_never_reads_costs_a_bounded_window() {
    a_flood_is_bounded(Duration::from_secs(3)).await;
}

#[tokio::test]
#[ignore = "soak: 60 s at full rate"]
async fn a_subscriber_that_never_reads_costs_a_bounded_window_for_a_minute() {
    a_flood_is_bounded(Duration::from_secs(60).max(PATIENCE)).await;
}

#[tokio::test]
async fn the_largest_message_is_a_setting() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let greeter = json!({"hellos": {"helloworld": {"type": "helloworld", "hello": "x"}}});
    let mut file = config(port, free_port(), &greeter);
    let filter = &mut file["servers"][0]["listeners"][0]["filter_chains"][0]["filters"][0]["config"];
    filter["max_message_bytes"] = json!(1000);
    let mut process = Sidecar::with_config(folder.path(), &file, &[]);
    assert!(process.wait_for_port(port));
    let mut caller = client(port).await;
    let hello = |length: usize| SayHelloRequest {
        service_name: "helloworld".into(),
        name: "x".repeat(length),
        data: None,
    };
    caller.say_hello(hello(900)).await.unwrap();
    let status = caller.say_hello(hello(1000)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert!(status.message().ends_with("vs. 1000)"), "{status}");
}
