use std::sync::Arc;

use layotto_core::{key_prefix::PrefixedKey, state::Concurrency};

use super::*;
use crate::{
    Components,
    ops::fake::{self, Asked, Fake},
    status::REASON,
};

fn text_of<T: std::fmt::Debug>(outcome: Result<T>) -> (ErrorKind, String) {
    let error = outcome.unwrap_err();
    (error.kind(), error.message().to_owned())
}

fn change(key: &str, etag: Option<&str>) -> Change {
    Change {
        key: key.to_owned(),
        etag: etag.map(str::to_owned),
        ..Change::default()
    }
}

fn step(operation: &str, change: Option<Change>) -> Step {
    Step {
        operation: operation.to_owned(),
        change,
    }
}

async fn get_of(runtime: &Runtime, key: &str) -> Result<Option<Item>> {
    get(runtime, "demo", key, Consistency::Unspecified, Metadata::new()).await
}

#[tokio::test]
async fn says_whether_a_store_is_unknown_or_none_is_configured() {
    let none = fake::runtime_of(Components::default());
    let error = get_of(&none, "k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::FailedPrecondition, "state store is not configured")
    );
    assert!(error.details().contains(&(REASON, "NOT_CONFIGURED".to_owned())));

    let runtime = fake::runtime(&Arc::default());
    let error = bulk_get(&runtime, "nope", BulkGet::default()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::InvalidArgument, "state store nope is not found")
    );
    assert!(
        error
            .details()
            .contains(&(REASON, "COMPONENT_NOT_FOUND".to_owned()))
    );
}

#[tokio::test]
async fn one_illegal_key_fails_the_whole_call_before_the_component_is_asked() {
    let fake = Arc::new(Fake {
        transactional: true,
        ..Fake::default()
    });
    let runtime = fake::runtime(&fake);
    let expected = (
        ErrorKind::InvalidArgument,
        "input key/keyPrefix 'a||b' can't contain '||'".to_owned(),
    );
    let changes = vec![change("ok", None), change("a||b", None)];
    assert_eq!(text_of(save(&runtime, "demo", changes.clone()).await), expected);
    assert_eq!(text_of(bulk_delete(&runtime, "demo", changes).await), expected);
    assert_eq!(
        text_of(delete(&runtime, "demo", change("a||b", None)).await),
        expected
    );
    assert_eq!(text_of(get_of(&runtime, "a||b").await), expected);
    let steps = vec![step("upsert", Some(change("a||b", None)))];
    assert_eq!(
        text_of(transact(&runtime, "demo", steps, &Metadata::new()).await),
        expected
    );
    assert_eq!(fake.asked(), []);
}

#[tokio::test]
async fn an_empty_etag_is_none() {
    let fake = Arc::new(Fake::default());
    let runtime = fake::runtime(&fake);
    save(
        &runtime,
        "demo",
        vec![change("a", Some("")), change("b", Some("7"))],
    )
    .await
    .unwrap();
    delete(&runtime, "demo", change("c", Some(""))).await.unwrap();
    let etags: Vec<_> = fake
        .asked()
        .into_iter()
        .map(|asked| match asked {
            Asked::Set(set) => (set.key.0, set.etag),
            Asked::Delete(delete) => (delete.key.0, delete.etag),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [("a", None), ("b", Some("7".to_owned())), ("c", None)];
    assert_eq!(etags, expected.map(|(key, etag)| (key.to_owned(), etag)));
}

#[tokio::test]
async fn errors_keep_their_kind_and_get_the_text_of_the_operation() {
    for (kind, cause, save_text, delete_text, transact_text) in [
        (
            ErrorKind::Conflict,
            "it is 3",
            "failed saving state in state store demo: possible etag mismatch. error from state store: it is 3",
            "failed deleting state with key k: possible etag mismatch. error from state store: it is 3",
            "error while executing state transaction: possible etag mismatch. error from state store: it is 3",
        ),
        (
            ErrorKind::InvalidEtag,
            "",
            "failed saving state in state store demo: invalid etag value",
            "failed deleting state with key k: invalid etag value",
            "error while executing state transaction: invalid etag value",
        ),
        (
            ErrorKind::Unavailable,
            "away",
            "failed saving state in state store demo: away",
            "failed deleting state with key k: away",
            "error while executing state transaction: away",
        ),
    ] {
        let fake = Arc::new(Fake {
            transactional: true,
            ..Fake::default()
        });
        fake.fail(kind, cause);
        let runtime = fake::runtime(&fake);
        let saved = save(&runtime, "demo", vec![change("k", None)]).await;
        assert_eq!(text_of(saved), (kind, save_text.to_owned()));
        assert_eq!(
            text_of(delete(&runtime, "demo", change("k", None)).await),
            (kind, delete_text.to_owned())
        );
        assert_eq!(
            text_of(transact(&runtime, "demo", Vec::new(), &Metadata::new()).await),
            (kind, transact_text.to_owned())
        );
    }
    let fake = Arc::new(Fake::default());
    fake.fail(ErrorKind::Timeout, "slow");
    let runtime = fake::runtime(&fake);
    let expected = (
        ErrorKind::Timeout,
        "fail to get k from state store demo: slow".to_owned(),
    );
    assert_eq!(text_of(get_of(&runtime, "k").await), expected);
}

#[tokio::test]
async fn a_bulk_read_answers_each_key_in_order() {
    let fake = Arc::new(Fake::default());
    let item = Item {
        value: "1".into(),
        etag: Some("5".to_owned()),
        ..Item::default()
    };
    fake.items.lock().unwrap().insert("a".to_owned(), item.clone());
    let runtime = fake::runtime(&fake);
    let keys = ["a", "broken", "none"].map(str::to_owned).to_vec();
    let items = bulk_get(
        &runtime,
        "demo",
        BulkGet {
            keys,
            parallelism: -3,
            ..BulkGet::default()
        },
    )
    .await
    .unwrap();
    let [a, broken, none] = &items[..] else {
        panic!("{items:?}")
    };
    assert_eq!((a.key.as_str(), a.outcome.as_ref().unwrap()), ("a", &Some(item)));
    assert_eq!(
        (
            broken.key.as_str(),
            broken.outcome.as_ref().unwrap_err().message()
        ),
        ("broken", "away")
    );
    assert_eq!(
        (none.key.as_str(), none.outcome.as_ref().unwrap()),
        ("none", &None)
    );
}

#[tokio::test]
async fn a_transaction_skips_steps_without_a_request_and_refuses_unknown_operations() {
    let fake = Arc::new(Fake {
        transactional: true,
        ..Fake::default()
    });
    let runtime = fake::runtime(&fake);
    let steps = vec![
        step("upsert", None),
        step("upsert", Some(change("a", Some("")))),
        step("delete", Some(change("b", None))),
    ];
    transact(&runtime, "demo", steps, &Metadata::new()).await.unwrap();
    let [Asked::Transact(operations)] = &fake.asked()[..] else {
        panic!("not one transaction")
    };
    let [Operation::Set(set), Operation::Delete(delete)] = &operations[..] else {
        panic!("{operations:?}")
    };
    assert_eq!(
        (&set.key, &set.etag, &delete.key),
        (&PrefixedKey("a".into()), &None, &PrefixedKey("b".into()))
    );
    assert_eq!(set.options.concurrency, Concurrency::Unspecified);

    let steps = vec![
        step("upsert", Some(change("a", None))),
        step("Upsert", Some(change("b", None))),
    ];
    let refused = transact(&runtime, "demo", steps, &Metadata::new()).await;
    assert_eq!(
        text_of(refused),
        (
            ErrorKind::Unsupported,
            "operation type Upsert not supported".to_owned()
        )
    );
    assert_eq!(fake.asked(), []);
}

#[tokio::test]
async fn a_store_without_transactions_says_so() {
    let runtime = fake::runtime(&Arc::default());
    let refused = transact(&runtime, "demo", Vec::new(), &Metadata::new()).await;
    let expected = (
        ErrorKind::Unsupported,
        "state store demo doesn't support transaction".to_owned(),
    );
    assert_eq!(text_of(refused), expected);
}
