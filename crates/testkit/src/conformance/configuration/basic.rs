//! Setting, getting and deleting items.

use futures::future::join_all;

use super::*;

pub(super) async fn defaults_are_named(store: Store) -> Verified {
    ensure!(
        !store.default_group().trim().is_empty(),
        "the default group is blank"
    );
    Ok(())
}

pub(super) async fn set_then_get(store: Store) -> Verified {
    let item = store.item("k", "v");
    store.put(vec![item.clone()]).await?;
    let mut found = store.get(&store.select(&["k"])).await.or_say("get")?;
    ensure!(found.len() == 1, "get of one key gave {found:?}");
    let found = found.remove(0);
    let fields = |item: &Item| [&item.key, &item.content, &item.group, &item.label].map(String::clone);
    equal("item", &fields(&found), &fields(&item))
}

pub(super) async fn missing_keys_are_left_out(store: Store) -> Verified {
    store.put(vec![store.item("k", "v")]).await?;
    equal(
        "items",
        &store.contents(&store.select(&["missing", "k"])).await?,
        &map([("k", "v")]),
    )?;
    equal(
        "items",
        &store.contents(&store.select(&["missing"])).await?,
        &map([]),
    )
}

pub(super) async fn several_keys_at_once(store: Store) -> Verified {
    store
        .put(vec![
            store.item("a", "1"),
            store.item("b", "2"),
            store.item("c", "3"),
        ])
        .await?;
    equal(
        "items",
        &store.contents(&store.select(&["c", "a"])).await?,
        &map([("a", "1"), ("c", "3")]),
    )
}

pub(super) async fn no_keys_means_all_or_none(store: Store) -> Verified {
    let own = store.fresh([]).await?;
    // A group of its own: what others write in the product must not show.
    let group = own.name("group");
    let item = |key: &str, content: &str| Item {
        group: group.clone(),
        ..own.item(key, content)
    };
    own.put(vec![item("a", "1"), item("b", "2")]).await?;
    let all = Selector {
        group: group.clone(),
        ..own.select(&[])
    };
    let found = own.contents(&all).await?;
    ensure!(
        found.is_empty() || found == map([("a", "1"), ("b", "2")]),
        "get without keys gave {found:?}"
    );
    Ok(())
}

pub(super) async fn overwrite_replaces(store: Store) -> Verified {
    for content in ["one", "two", "", "three"] {
        store.put(vec![store.item("k", content)]).await?;
        equal(
            "items",
            &store.contents(&store.select(&["k"])).await?,
            &map([("k", content)]),
        )?;
    }
    Ok(())
}

pub(super) async fn odd_keys_are_kept_apart(store: Store) -> Verified {
    let keys = ["k", "k2", "K", "k.x", "k-x", "ключ", "k x", "k%2Fx"];
    for key in keys {
        store.put(vec![store.item(key, key)]).await?;
    }
    let wanted = keys.map(|key| (key, key));
    equal(
        "items",
        &store.contents(&store.select(&keys)).await?,
        &map(wanted),
    )
}

pub(super) async fn groups_and_labels_are_kept_apart(store: Store) -> Verified {
    let places = [
        ("g1", "l1"),
        ("g1", "l2"),
        ("g2", "l1"),
        (store.default_group(), store.default_label()),
    ];
    let content = |(group, label): (&str, &str)| format!("{group} {label}");
    for place in places {
        let item = Item {
            group: place.0.to_owned(),
            label: place.1.to_owned(),
            ..store.item("k", &content(place))
        };
        store.put(vec![item]).await?;
    }
    let select = |(group, label): (&str, &str)| Selector {
        group: group.to_owned(),
        label: label.to_owned(),
        ..store.select(&["k"])
    };
    for place in places {
        let found = store.contents(&select(place)).await?;
        equal(
            &format!("items of {place:?}"),
            &found,
            &map([("k", &content(place))]),
        )?;
    }
    store.delete(&select(places[0])).await.or_say("delete")?;
    equal(
        "items after a delete",
        &store.contents(&select(places[0])).await?,
        &map([]),
    )?;
    for place in places.into_iter().skip(1) {
        let found = store.contents(&select(place)).await?;
        equal(
            &format!("items of {place:?} after a delete"),
            &found,
            &map([("k", &content(place))]),
        )?;
    }
    Ok(())
}

async fn tags_of(store: &Store) -> Result<HashMap<String, String>, String> {
    let mut found = store.get(&store.select(&["k"])).await.or_say("get")?;
    Ok(found.pop().ok_or("the item is missing")?.tags)
}

pub(super) async fn tags_come_back(store: Store) -> Verified {
    let tags = map([("a", "1"), ("b c", "✓"), ("empty", "")]);
    let item = Item {
        tags: tags.clone(),
        ..store.item("k", "v")
    };
    store.put(vec![item]).await?;
    equal("tags", &tags_of(&store).await?, &tags)
}

pub(super) async fn tags_are_replaced(store: Store) -> Verified {
    for tags in [map([("a", "1"), ("b", "2")]), map([("b", "3")]), map([])] {
        let item = Item {
            tags: tags.clone(),
            ..store.item("k", "v")
        };
        store.put(vec![item]).await?;
        equal("tags", &tags_of(&store).await?, &tags)?;
    }
    Ok(())
}

pub(super) async fn large_and_odd_contents_come_back(store: Store) -> Verified {
    for content in [
        "a\nb\r\n\tc \u{0}",
        "✓ é 名",
        r#"{"a": 1.50}"#,
        &"x".repeat(200_000),
    ] {
        store.put(vec![store.item("k", content)]).await?;
        equal(
            "items",
            &store.contents(&store.select(&["k"])).await?,
            &map([("k", content)]),
        )?;
    }
    Ok(())
}

pub(super) async fn delete_removes_the_key_alone(store: Store) -> Verified {
    store
        .put(vec![
            store.item("foo", "1"),
            store.item("foobar", "2"),
            store.item("b", "3"),
        ])
        .await?;
    store.delete(&store.select(&["foo"])).await.or_say("delete")?;
    let left = map([("foobar", "2"), ("b", "3")]);
    equal(
        "items",
        &store.contents(&store.select(&["foo", "foobar", "b"])).await?,
        &left,
    )?;
    store
        .delete(&store.select(&["foobar", "b"]))
        .await
        .or_say("delete of two")?;
    equal(
        "items",
        &store.contents(&store.select(&["foo", "foobar", "b"])).await?,
        &map([]),
    )
}

pub(super) async fn delete_of_a_missing_key_is_no_error(store: Store) -> Verified {
    store.delete(&store.select(&["never"])).await.or_say("delete")
}

pub(super) async fn concurrent_sets_lose_nothing(store: Store) -> Verified {
    let keys: Vec<_> = (0..40).map(|number| format!("k{number}")).collect();
    let sets = keys.iter().map(|key| {
        let (store, item) = (store.clone(), store.item(key, key));
        tokio::spawn(async move { store.put(vec![item]).await })
    });
    for joined in join_all(sets).await {
        joined.map_err(|error| error.to_string())??;
    }
    let names: Vec<_> = keys.iter().map(String::as_str).collect();
    let found = store.contents(&store.select(&names)).await?;
    equal("number of items", &found.len(), &keys.len())
}

pub(super) async fn survives_a_restart(store: Store) -> Verified {
    let own = store.fresh([]).await?;
    let item = Item {
        tags: map([("t", "1")]),
        ..own.item("kept", "v")
    };
    own.put(vec![item, own.item("gone", "v")]).await?;
    own.delete(&own.select(&["gone"])).await.or_say("delete")?;
    let selector = own.select(&["kept", "gone"]);
    let before = own.get(&selector).await.or_say("get")?;
    ensure!(
        before.len() == 1,
        "one of two items was deleted, found {before:?}"
    );
    let own = own.reopen().await?;
    equal(
        "items after a restart",
        &own.get(&selector).await.or_say("get")?,
        &before,
    )
}
