use std::sync::Arc;

use layotto_core::ErrorKind;

use super::*;
use crate::ops::fake::{self, Asked, Fake};

#[tokio::test]
async fn blank_groups_and_labels_mean_the_stores_own() {
    let fake = Arc::new(Fake::default());
    let runtime = fake::runtime(&fake);
    for (given, group, label) in [
        ("", "usual group", "usual label"),
        ("  ", "usual group", "usual label"),
        ("\t", "\t", "\t"),
    ] {
        let selector = Selector {
            group: given.to_owned(),
            label: given.to_owned(),
            ..Selector::default()
        };
        get(&runtime, "demo", selector.clone()).await.unwrap();
        delete(&runtime, "demo", selector.clone()).await.unwrap();
        subscribe(&runtime, "demo", selector).await.unwrap();
        let item = Item {
            group: given.to_owned(),
            label: given.to_owned(),
            ..Item::default()
        };
        set(&runtime, "demo", "a", vec![item], &Metadata::new())
            .await
            .unwrap();

        let selected = Selector {
            group: group.to_owned(),
            label: label.to_owned(),
            ..Selector::default()
        };
        let saved = Item {
            group: group.to_owned(),
            label: label.to_owned(),
            ..Item::default()
        };
        let expected = [
            Asked::Select(selected.clone()),
            Asked::Select(selected.clone()),
            Asked::Select(selected),
            Asked::Save("a".to_owned(), vec![saved]),
        ];
        assert_eq!(fake.asked(), expected);
    }
}

#[tokio::test]
async fn words_errors_as_upstream_does() {
    let fake = Arc::new(Fake::default());
    let runtime = fake::runtime(&fake);
    let unknown = get(&runtime, "nope", Selector::default()).await.unwrap_err();
    assert_eq!(unknown.message(), "configure store [nope] don't support now");
    fake.fail(ErrorKind::Unavailable, "away");
    let failed = get(&runtime, "demo", Selector::default()).await.unwrap_err();
    assert_eq!(failed.message(), "get configuration failed with error: away");
    let failed = delete(&runtime, "demo", Selector::default()).await.unwrap_err();
    assert_eq!(
        (failed.kind(), failed.message()),
        (ErrorKind::Unavailable, "away")
    );
}

#[tokio::test]
async fn a_watch_is_listed_while_it_lives() {
    let runtime = fake::runtime(&Arc::new(Fake::default()));
    let selector = Selector {
        app_id: "a".to_owned(),
        keys: vec!["k".to_owned()],
        ..Selector::default()
    };
    subscribe(&runtime, "nope", selector.clone()).await.unwrap_err();
    assert!(runtime.watches.list().is_empty());
    let watch = subscribe(&runtime, "demo", selector).await.unwrap();
    let listed = Listed {
        store: "demo".to_owned(),
        app_id: "a".to_owned(),
        keys: vec!["k".to_owned()],
    };
    assert_eq!(runtime.watches.list(), [listed]);
    drop(watch);
    assert!(runtime.watches.list().is_empty());
}
