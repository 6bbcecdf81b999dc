use std::sync::Arc;

use chrono::{DateTime, Utc};
use layotto_core::{Error, ErrorKind, Metadata, pubsub::Features};

use super::{
    Publication,
    fake::{Broker, runtime, slot},
    publish,
};
use crate::{Components, Runtime, event};

fn publication(metadata: &[(&str, &str)]) -> Publication {
    Publication {
        pubsub: "p".into(),
        topic: "t1".into(),
        data: "hello".into(),
        metadata: metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Publication::default()
    }
}

async fn failure(broker: Broker, publication: Publication) -> (ErrorKind, String) {
    let error = publish(&runtime(slot(Some(Arc::new(broker)))), publication)
        .await
        .unwrap_err();
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn names_are_checked_before_anything_else() {
    let empty = Publication::default();
    let invalid = ErrorKind::InvalidArgument;
    assert_eq!(
        failure(Broker::default(), empty).await,
        (invalid, "pubsub name is empty".into())
    );
    let no_topic = Publication {
        topic: String::new(),
        ..publication(&[])
    };
    assert_eq!(
        failure(Broker::default(), no_topic).await,
        (invalid, "topic is empty in pubsub p".into())
    );
    let unknown = Publication {
        pubsub: "nope".into(),
        ..publication(&[])
    };
    assert_eq!(
        failure(Broker::default(), unknown).await,
        (invalid, "pubsub nope not found".into())
    );
}

#[tokio::test]
async fn without_any_component_the_name_is_unknown_too() {
    let runtime = Runtime::new(
        "",
        Components::default(),
        Arc::default(),
        Default::default(),
        Default::default(),
    );
    let error = publish(&runtime, publication(&[])).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::InvalidArgument, "pubsub p not found")
    );
}

#[tokio::test]
async fn a_bad_cloud_event_is_refused() {
    let content_type = "application/cloudevents+json".to_owned();
    let bad = Publication {
        data: "null".into(),
        content_type,
        ..publication(&[])
    };
    let (kind, text) = failure(Broker::default(), bad).await;
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(text.starts_with("cannot create cloudevent: "), "{text}");
}

#[tokio::test]
async fn the_components_error_keeps_its_kind() {
    let broker = Broker {
        refuse: Some(|| Error::new(ErrorKind::ResourceExhausted, "queue is full")),
        ..Broker::default()
    };
    let expected = "error when publish to topic t1 in pubsub p: queue is full".to_owned();
    assert_eq!(
        failure(broker, publication(&[])).await,
        (ErrorKind::ResourceExhausted, expected)
    );
}

#[tokio::test]
async fn the_brokers_id_comes_before_the_events() {
    let with_ids = Arc::new(Broker {
        ids: true,
        ..Broker::default()
    });
    let id = publish(&runtime(slot(Some(with_ids))), publication(&[]))
        .await
        .unwrap();
    assert_eq!(id.as_deref(), Some("m0"));

    let broker = Arc::new(Broker::default());
    let id = publish(&runtime(slot(Some(broker.clone()))), publication(&[]))
        .await
        .unwrap();
    assert_eq!(id, Some(event::parse(&broker.published()[0].data).unwrap().id()));
}

#[tokio::test]
async fn a_raw_payload_gets_no_envelope() {
    let broker = Arc::new(Broker::default());
    let metadata = [("rawPayload", "true"), ("ttlInSeconds", "9")];
    let id = publish(&runtime(slot(Some(broker.clone()))), publication(&metadata))
        .await
        .unwrap();
    let published = &broker.published()[0];
    assert_eq!((id, &published.data[..]), (None, &b"hello"[..]));
    assert_eq!(
        published.metadata,
        metadata
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into_iter()
            .collect::<Metadata>()
    );
}

#[tokio::test]
async fn a_lifetime_is_in_the_envelope_unless_the_broker_keeps_it() {
    for (message_ttl, ttl, expires) in [(false, "60", true), (false, "abc", false), (true, "60", false)] {
        let features = Features {
            message_ttl,
            ..Features::default()
        };
        let broker = Arc::new(Broker {
            features,
            ..Broker::default()
        });
        publish(
            &runtime(slot(Some(broker.clone()))),
            publication(&[("ttlInSeconds", ttl)]),
        )
        .await
        .unwrap();
        let published = broker.published();
        let envelope = event::parse(&published[0].data).unwrap();
        assert_eq!(
            envelope.raw("expiration").is_some(),
            expires,
            "{message_ttl} {ttl}"
        );
    }
}

#[tokio::test]
async fn a_life_begins_when_the_event_is_due() {
    let features = Features {
        delayed: true,
        ..Features::default()
    };
    let broker = Arc::new(Broker {
        features,
        ..Broker::default()
    });
    let metadata = [("ttlInSeconds", "60"), ("delayInSeconds", "3600")];
    let before = Utc::now();
    publish(&runtime(slot(Some(broker.clone()))), publication(&metadata))
        .await
        .unwrap();
    let published = broker.published();
    let envelope = event::parse(&published[0].data).unwrap();
    let expiration = envelope.raw("expiration").unwrap().to_string();
    let expiration = DateTime::parse_from_rfc3339(expiration.trim_matches('"')).unwrap();
    let life = (expiration.to_utc() - before).num_seconds();
    assert!((3658..=3720).contains(&life), "{life}");
}

#[tokio::test]
async fn a_delay_needs_a_broker_that_can() {
    let delayed = publication(&[("delayInSeconds", "5")]);
    assert_eq!(
        failure(Broker::default(), delayed.clone()).await.0,
        ErrorKind::Unsupported
    );
    let wrong = publication(&[("delayInSeconds", "soon")]);
    assert_eq!(
        failure(Broker::default(), wrong).await.0,
        ErrorKind::InvalidArgument
    );
    let features = Features {
        delayed: true,
        ..Features::default()
    };
    let broker = Arc::new(Broker {
        features,
        ..Broker::default()
    });
    publish(&runtime(slot(Some(broker.clone()))), delayed)
        .await
        .unwrap();
    assert_eq!(broker.published()[0].metadata["delayInSeconds"], "5");
}

#[tokio::test]
async fn a_component_that_is_not_open_is_unavailable() {
    let error = publish(&runtime(slot(None)), publication(&[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.message(),
        "error when publish to topic t1 in pubsub p: component is starting"
    );
}
