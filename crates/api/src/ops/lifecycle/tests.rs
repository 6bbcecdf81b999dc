use layotto_core::{custom::Custom, key_prefix::Scope};

use super::*;
use crate::{
    Components, Store,
    ops::fake::{self, Asked, Fake},
};

fn hello() -> Metadata {
    Metadata::from([("hello".to_owned(), String::new())])
}

#[tokio::test]
async fn checks_in_the_order_of_upstream() {
    let runtime = fake::runtime(&Arc::default());
    for (kind, name, metadata, expected) in [
        ("", "", Metadata::new(), "field kind is not configured"),
        ("hellos", "", Metadata::new(), "field name is not configured"),
        (
            "hellos",
            "demo",
            Metadata::new(),
            "field metadata is not configured",
        ),
        (
            "hello",
            "demo",
            hello(),
            "component not found. kind: hello , name: demo",
        ),
        (
            "hellos",
            "nope",
            hello(),
            "component not found. kind: hellos , name: nope",
        ),
        (
            "hellos",
            "demo",
            hello(),
            "component not found. kind: hellos , name: demo",
        ),
    ] {
        let error = apply(&runtime, kind, name, metadata).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::InvalidArgument, expected)
        );
    }
}

#[tokio::test]
async fn reaches_dynamic_components_of_every_kind_with_empty_texts_kept() {
    let fake = Arc::new(Fake {
        dynamic: true,
        ..Fake::default()
    });
    let runtime = fake::runtime(&fake);
    let expected = Settings::verbatim(serde_json::Map::from_iter([("hello".to_owned(), "".into())]));
    for kind in [
        "hellos",
        "config_store",
        "state",
        "file",
        "lock",
        "secret_store",
        "bindings",
    ] {
        apply(&runtime, kind, "demo", hello()).await.unwrap();
        assert_eq!(fake.asked(), [Asked::Apply(expected.clone())], "{kind}");
    }
}

impl Custom for Fake {}

#[tokio::test]
async fn reaches_custom_components_by_their_kind() {
    let fake = Arc::new(Fake {
        dynamic: true,
        ..Fake::default()
    });
    let mut custom = Store::default();
    custom.insert(fake::slot(
        "demo",
        Scope::State,
        Arc::clone(&fake) as Arc<dyn Custom>,
    ));
    let mut components = Components::default();
    components.custom.insert("helloworld".to_owned(), custom);
    let runtime = fake::runtime_of(components);
    apply(&runtime, "custom_component.helloworld", "demo", hello())
        .await
        .unwrap();
    assert_eq!(fake.asked().len(), 1);
    assert!(
        apply(&runtime, "custom_component.other", "demo", hello())
            .await
            .is_err()
    );
}

// deviation: D011
#[tokio::test]
async fn a_refusal_is_the_callers_mistake() {
    let fake = Arc::new(Fake {
        dynamic: true,
        ..Fake::default()
    });
    let runtime = fake::runtime(&fake);
    fake.fail(ErrorKind::Internal, "no such greeting");
    let error = apply(&runtime, "hellos", "demo", hello()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::InvalidArgument, "no such greeting")
    );
    fake.fail(ErrorKind::Unavailable, "away");
    let error = apply(&runtime, "hellos", "demo", hello()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
