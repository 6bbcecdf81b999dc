//! Subscriptions.

use super::*;

pub(super) async fn gets_every_change_it_waits_for(store: Store) -> Verified {
    let mut watch = store.watch(&["k"]).await?;
    for content in ["1", "2", "3", "4", "5"] {
        store.put(vec![store.item("k", content)]).await?;
        let seen = watch.until("k", content).await?;
        equal("changes", &seen, &vec![("k".to_owned(), content.to_owned())])?;
    }
    Ok(())
}

/// Older changes of a key may be left out, but never come after newer ones.
pub(super) async fn changes_keep_their_order(store: Store) -> Verified {
    let mut watch = store.watch(&["k"]).await?;
    for number in 0..100 {
        store.put(vec![store.item("k", &number.to_string())]).await?;
    }
    let seen = watch.until("k", "99").await?;
    let numbers: Vec<u32> = seen
        .iter()
        .filter_map(|(_, content)| content.parse().ok())
        .collect();
    ensure!(
        numbers.is_sorted_by(|a, b| a < b),
        "changes came in the order {numbers:?}"
    );
    equal("the last change", &numbers.last(), &Some(&99))
}

pub(super) async fn gets_selected_items_alone(store: Store) -> Verified {
    let mut watch = store.watch(&["a", "b"]).await?;
    let elsewhere = |group: &str, label: &str| Item {
        group: group.to_owned(),
        label: label.to_owned(),
        ..store.item("a", "elsewhere")
    };
    store
        .put(vec![store.item("other", "x"), store.item("ab", "x")])
        .await?;
    store
        .put(vec![
            elsewhere("g2", store.default_label()),
            elsewhere(store.default_group(), "l2"),
        ])
        .await?;
    // Seen before the next change of `a`, which could take the place of a wrong one.
    store.put(vec![store.item("b", "2")]).await?;
    let change = |key: &str, content: &str| vec![(key.to_owned(), content.to_owned())];
    equal("changes", &watch.until("b", "2").await?, &change("b", "2"))?;
    store.put(vec![store.item("a", "1")]).await?;
    equal("changes", &watch.until("a", "1").await?, &change("a", "1"))
}

pub(super) async fn a_new_key_is_a_change(store: Store) -> Verified {
    let mut watch = store.watch(&["new"]).await?;
    let item = Item {
        tags: map([("t", "1")]),
        ..store.item("new", "v")
    };
    store.put(vec![item.clone()]).await?;
    let mut batch = watch.batch().await?;
    ensure!(batch.len() == 1, "one new key showed as {batch:?}");
    let found = batch.remove(0);
    equal("content", &found.content, &item.content)?;
    equal("group", &found.group, &item.group)?;
    equal("label", &found.label, &item.label)?;
    equal("tags", &found.tags, &item.tags)
}

pub(super) async fn a_set_of_several_items_shows_all(store: Store) -> Verified {
    let mut watch = store.watch(&["a", "b", "c"]).await?;
    store
        .put(vec![
            store.item("a", "1"),
            store.item("b", "2"),
            store.item("c", "3"),
        ])
        .await?;
    let mut seen = HashMap::new();
    while seen.len() < 3 {
        seen.extend(
            watch
                .batch()
                .await?
                .into_iter()
                .map(|item| (item.key, item.content)),
        );
    }
    equal("changes", &seen, &map([("a", "1"), ("b", "2"), ("c", "3")]))
}

pub(super) async fn deletion_is_an_empty_content(store: Store) -> Verified {
    let mut watch = store.watch(&["k"]).await?;
    store.put(vec![store.item("k", "v")]).await?;
    watch.until("k", "v").await?;
    store.delete(&store.select(&["k"])).await.or_say("delete")?;
    watch.until("k", "").await?;
    store.put(vec![store.item("k", "again")]).await?;
    watch.until("k", "again").await.map(drop)
}

pub(super) async fn two_subscribers_get_each_change(store: Store) -> Verified {
    let (mut first, mut second) = (store.watch(&["k"]).await?, store.watch(&["k", "other"]).await?);
    for content in ["1", "2"] {
        store.put(vec![store.item("k", content)]).await?;
        first.until("k", content).await?;
        second.until("k", content).await?;
    }
    Ok(())
}

pub(super) async fn dropping_one_leaves_the_other(store: Store) -> Verified {
    let (first, mut second) = (store.watch(&["k"]).await?, store.watch(&["k"]).await?);
    drop(first);
    for content in ["1", "2", "3"] {
        store.put(vec![store.item("k", content)]).await?;
        second.until("k", content).await?;
    }
    drop(second);
    store.put(vec![store.item("k", "4")]).await?;
    let mut third = store.watch(&["k"]).await?;
    store.put(vec![store.item("k", "5")]).await?;
    third.until("k", "5").await.map(drop)
}

/// Nothing reads the slow subscription while hundreds of changes come.
pub(super) async fn a_slow_subscriber_blocks_nobody(store: Store) -> Verified {
    let (mut slow, mut quick) = (store.watch(&["k"]).await?, store.watch(&["k"]).await?);
    let own = store.clone();
    let setting = tokio::spawn(async move {
        for number in 0..300 {
            own.put(vec![own.item("k", &number.to_string())]).await?;
        }
        own.put(vec![own.item("k", "last")]).await
    });
    // One change after the other: how long all of them take is up to the machine.
    quick.until("k", "last").await?;
    setting.await.map_err(|error| error.to_string())??;
    slow.until("k", "last").await.map(drop)
}

/// Changes of one key may give way to newer ones of the same key, not to those of others.
pub(super) async fn a_slow_subscriber_misses_no_key(store: Store) -> Verified {
    let names: Vec<_> = (0..40).map(|number| format!("k{number}")).collect();
    let keys: Vec<_> = names.iter().map(String::as_str).collect();
    let mut slow = store.watch(&keys).await?;
    for round in ["first", "second", "last"] {
        for key in &keys {
            store.put(vec![store.item(key, round)]).await?;
        }
    }
    let mut latest = HashMap::new();
    while latest.values().filter(|content| *content == "last").count() < keys.len() {
        let batch = slow
            .batch()
            .await
            .map_err(|wrong| format!("{wrong}; so far {latest:?}"))?;
        latest.extend(batch.into_iter().map(|item| (item.key, item.content)));
    }
    Ok(())
}
