use std::time::Duration;

use bytes::Bytes;
use layotto_core::{Error, ErrorKind, configuration::Item, rpc};
use layotto_proto::runtime::v1::{
    GetFileRequest, InvokeServiceRequest, PutFileRequest, SubscribeConfigurationRequest,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::*;
use crate::ops::fake::Asked;

fn piece(data: &'static str) -> PutFileRequest {
    PutFileRequest {
        store_name: "demo".to_owned(),
        name: "f".to_owned(),
        data: data.into(),
        ..PutFileRequest::default()
    }
}

async fn read(served: &Served) -> (Vec<usize>, Option<(Code, String)>) {
    let request = GetFileRequest {
        store_name: "demo".to_owned(),
        ..GetFileRequest::default()
    };
    let mut answers = match served.client().get_file(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Some((status.code(), status.message().to_owned()))),
    };
    let mut sizes = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => sizes.push(answer.data.len()),
            Ok(None) => return (sizes, None),
            Err(status) => return (sizes, Some((status.code(), status.message().to_owned()))),
        }
    }
}

#[tokio::test]
async fn a_file_comes_in_pieces_of_at_most_102400_bytes() {
    let served = Served::new(Options::default());
    *served.fake.pieces.lock().unwrap() = vec![
        Ok(Bytes::from(vec![0; 250_000])),
        Ok(Bytes::new()),
        Ok("ab".into()),
    ];
    assert_eq!(read(&served).await, (vec![102_400, 102_400, 45_200, 2], None));
    assert_eq!(read(&served).await, (vec![], None));
}

#[tokio::test]
async fn a_file_that_breaks_off_ends_in_an_error() {
    let served = Served::new(Options::default());
    *served.fake.pieces.lock().unwrap() = vec![Ok("ab".into()), Err(Error::internal("disk gone"))];
    let expected = (Code::Internal, "get file fail,err: disk gone".to_owned());
    assert_eq!(read(&served).await, (vec![2], Some(expected)));
    served.fake.fail(ErrorKind::NotFound, "file does not exist");
    let expected = (
        Code::NotFound,
        "get file fail,err: file does not exist".to_owned(),
    );
    assert_eq!(read(&served).await, (vec![], Some(expected)));
    let text = served.runtime.metrics.encode().unwrap();
    let line = "layotto_requests_failed_total{method=\"/spec.proto.runtime.v1.Runtime/GetFile\",code=\"INTERNAL\"} 1";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn an_upload_arrives_whole() {
    let served = Served::new(Options::default());
    served
        .client()
        .put_file(tokio_stream::iter([piece("hello "), piece("world")]))
        .await
        .unwrap();
    assert_eq!(
        served.fake.asked(),
        [Asked::Put("f".to_owned(), "hello world".into())]
    );
    served.client().put_file(tokio_stream::iter([])).await.unwrap();
    assert_eq!(served.fake.asked(), []);
    let unknown = PutFileRequest {
        store_name: "nope".to_owned(),
        ..PutFileRequest::default()
    };
    let status = served
        .client()
        .put_file(tokio_stream::iter([unknown]))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "not support store type: nope")
    );
}

#[tokio::test]
async fn a_cancelled_upload_is_never_taken_for_a_whole_file() {
    let served = Served::new(Options::default());
    let (sender, pieces) = mpsc::channel(1);
    let mut client = served.client();
    let upload = tokio::spawn(async move { client.put_file(ReceiverStream::new(pieces)).await });
    sender.send(piece("half")).await.unwrap();
    served.fake.happened.notified().await;
    upload.abort();
    assert!(upload.await.unwrap_err().is_cancelled());
    drop(sender);
    // The call is over once it is counted.
    let counted = loop {
        let text = served.runtime.metrics.encode().unwrap();
        let mut lines = text
            .lines()
            .filter(|line| line.contains("Runtime/PutFile") && line.ends_with(" 1"));
        if let Some(line) = lines.find(|line| line.contains("_total")) {
            break line.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(counted.contains("code=\"CANCELLED\""), "{counted}");
    assert_eq!(served.fake.asked(), []);
}

fn watch(store: &str) -> SubscribeConfigurationRequest {
    SubscribeConfigurationRequest {
        store_name: store.to_owned(),
        app_id: "a".to_owned(),
        ..SubscribeConfigurationRequest::default()
    }
}

fn change(key: &str) -> Vec<Item> {
    vec![Item {
        key: key.to_owned(),
        ..Item::default()
    }]
}

#[tokio::test]
async fn one_stream_carries_every_subscription_until_the_client_closes_it() {
    let served = Served::new(Options::default());
    let (sender, requests) = mpsc::channel(4);
    let mut client = served.client();
    let mut changes = client
        .subscribe_configuration(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    for expected in 1..=2 {
        sender.send(watch("demo")).await.unwrap();
        served.fake.happened.notified().await;
        assert_eq!(served.fake.changes.lock().unwrap().len(), expected);
    }
    let sources = served.fake.changes.lock().unwrap().clone();
    for (source, key) in sources.iter().zip(["one", "other"]) {
        source.send(change(key)).await.unwrap();
        let change = changes.message().await.unwrap().unwrap();
        assert_eq!(
            (change.store_name.as_str(), change.app_id.as_str()),
            ("demo", "a")
        );
        assert_eq!(change.items[0].key, key);
    }
    drop(sender);
    assert_eq!(changes.message().await.unwrap(), None);
    for source in sources {
        source.closed().await;
    }
}

#[tokio::test]
async fn an_unknown_store_ends_the_stream_and_its_subscriptions_alone() {
    let served = Served::new(Options::default());
    let open = || async {
        let (sender, requests) = mpsc::channel(4);
        let mut client = served.client();
        sender.send(watch("demo")).await.unwrap();
        let changes = client
            .subscribe_configuration(ReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        served.fake.happened.notified().await;
        (sender, changes)
    };
    let (first, mut first_changes) = open().await;
    let (_second, mut second_changes) = open().await;
    first.send(watch("nope")).await.unwrap();
    let status = first_changes.message().await.unwrap_err();
    let text = "configure store [nope] don't support now";
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
    let sources = served.fake.changes.lock().unwrap().clone();
    sources[0].closed().await;
    sources[1].send(change("k")).await.unwrap();
    assert_eq!(second_changes.message().await.unwrap().unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_subscription_that_its_store_ends_is_an_error() {
    let served = Served::new(Options::default());
    let (sender, requests) = mpsc::channel(4);
    sender.send(watch("demo")).await.unwrap();
    let mut client = served.client();
    let mut changes = client
        .subscribe_configuration(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    served.fake.happened.notified().await;
    served.fake.changes.lock().unwrap().clear();
    assert_eq!(changes.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn streams_end_well_when_the_process_drains() {
    let served = Served::new(Options::default());
    let (sender, requests) = mpsc::channel(4);
    sender.send(watch("demo")).await.unwrap();
    let mut client = served.client();
    let mut changes = client
        .subscribe_configuration(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    served.fake.happened.notified().await;
    served.runtime.shutdown.cancel();
    assert_eq!(changes.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_store_back() {
    let served = Served::new(Options::default());
    let (sender, requests) = mpsc::channel(4);
    sender.send(watch("demo")).await.unwrap();
    let mut client = served.client();
    let _changes = client
        .subscribe_configuration(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    served.fake.happened.notified().await;
    let source = served.fake.changes.lock().unwrap()[0].clone();
    let big = vec![Item {
        content: "x".repeat(1 << 20),
        ..Item::default()
    }];
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_millis(200), source.send(big.clone()))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 64, "changes pile up in the server");
    }
}

#[tokio::test]
async fn a_subscription_is_opened_also_while_the_client_does_not_read() {
    let served = Served::new(Options::default());
    let (sender, requests) = mpsc::channel(4);
    sender.send(watch("demo")).await.unwrap();
    let mut client = served.client();
    let _changes = client
        .subscribe_configuration(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    served.fake.happened.notified().await;
    let gate = Arc::new(Notify::new());
    *served.fake.gate.lock().unwrap() = Some(Arc::clone(&gate));
    sender.send(watch("demo")).await.unwrap();
    while served.fake.asked.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let source = served.fake.changes.lock().unwrap()[0].clone();
    let big = vec![Item {
        content: "x".repeat(1 << 20),
        ..Item::default()
    }];
    while tokio::time::timeout(Duration::from_millis(200), source.send(big.clone()))
        .await
        .is_ok()
    {}
    gate.notify_one();
    tokio::time::timeout(Duration::from_secs(10), served.fake.happened.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn headers_of_the_service_called_come_back() {
    let served = Served::new(Options::default());
    *served.fake.answer.lock().unwrap() = rpc::Response {
        content_type: "text/plain".to_owned(),
        headers: vec![
            ("X-Up".to_owned(), "yes".to_owned()),
            ("Content-Length".to_owned(), "2".to_owned()),
        ],
        data: "ok".into(),
    };
    let answer = served
        .client()
        .invoke_service(InvokeServiceRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.metadata().get("x-up").unwrap(), "yes");
    assert_eq!(answer.metadata().get("content-length"), None);
    let data = answer.into_inner().data.unwrap();
    assert_eq!((data.type_url.as_str(), &data.value[..]), ("", &b"ok"[..]));
}
