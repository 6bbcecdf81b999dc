//! Events with a delay.

use super::*;

const DELAY: &[(&str, &str)] = &[("delayInSeconds", "1")];

#[tokio::test(flavor = "multi_thread")]
async fn delayed_events_wait_in_a_sorted_set_and_each_is_moved_once_by_whoever_is_there() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let (first, second) = (on(&server, json!({})).await, on(&server, json!({})).await);
    let mut subscribers = [first.subscribe("t").await, second.subscribe("t").await];
    for text in texts(0..150) {
        let publisher = if *text < *"075" { &first } else { &second };
        let id = publisher.publish_with("t", &text, DELAY).await.unwrap();
        assert_eq!(id, None, "it has an id when it is due");
    }
    assert_eq!(ask(&server, &["type", "t|||delayed"]), "zset");
    let mut seen = Vec::new();
    while seen.len() < 150 {
        let [one, two] = &mut subscribers;
        seen.push(tokio::select! {
            text = soon(one.ack()) => text,
            text = soon(two.ack()) => text,
        });
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(ask(&server, &["xlen", "t"]), "150", "some were moved twice");
    assert!(
        seen.into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .eq(texts(0..150))
    );
    until("0".to_owned(), || ask(&server, &["exists", "t|||delayed"])).await;
    first.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_due_come_in_the_order_of_their_times() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({"concurrency": "1"})).await;
    for (text, delay) in [("c", "2"), ("a", "1"), ("b", "1")] {
        subject
            .publish_with("t", text, &[("delayInSeconds", delay)])
            .await
            .unwrap();
    }
    let mut subscriber = subject.subscribe("t").await;
    for text in ["a", "b", "c"] {
        assert_eq!(soon(subscriber.ack()).await, text);
    }
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publisher_moves_events_that_nobody_of_ours_subscribed_to_and_then_no_more() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let subject = on(&server, json!({"maxLenApprox": "5"})).await;
    subject.publish_with("t", "later", DELAY).await.unwrap();
    assert_eq!(ask(&server, &["exists", "t"]), "0");
    until("1".to_owned(), || ask(&server, &["xlen", "t"])).await;
    assert!(ask(&server, &["xrange", "t", "-", "+"]).ends_with("data\nlater"));
    until(true, || subject.cx.tasks.is_empty()).await;
    subject.publish_with("t", "again", DELAY).await.unwrap();
    until("2".to_owned(), || ask(&server, &["xlen", "t"])).await;
    subject.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_moves_what_a_publisher_that_is_gone_left() {
    needs!(servers::PROGRAM);
    let server = servers::start(&[]).await.unwrap();
    let (gone, subject) = (on(&server, json!({})).await, on(&server, json!({})).await);
    let mut subscriber = subject.subscribe("t").await;
    gone.publish_with("t", "left", DELAY).await.unwrap();
    gone.end().await;
    assert_eq!(soon(subscriber.ack()).await, "left");
    subject.end().await;
}
