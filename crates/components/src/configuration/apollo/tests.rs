use std::{fs, os::unix::fs::PermissionsExt};

use layotto_testkit::{
    needs,
    server::apollo::{Mock, PROGRAM, StandIn},
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

use super::*;

const SECRET: &str = "df23df3f59884980844ff3dada30fa97";

fn config(apollo: &StandIn) -> Config {
    Config {
        address: vec![apollo.url()],
        app_id: "app1".to_owned(),
        open_api_address: apollo.url(),
        open_api_token: Secret::new(apollo.token().to_owned()),
        open_api_user: "apollo".to_owned(),
        ..Config::default()
    }
}

async fn open_in(folder: &tempfile::TempDir, config: Config) -> Apollo {
    Apollo::open(config, Context::standalone("test", folder.path()))
        .await
        .unwrap()
}

async fn open(config: Config) -> (Apollo, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (open_in(&folder, config).await, folder)
}

fn select_from(group: &str, keys: &[&str]) -> Selector {
    Selector {
        app_id: "app1".to_owned(),
        group: group.to_owned(),
        label: String::new(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        metadata: Metadata::new(),
    }
}

fn select(keys: &[&str]) -> Selector {
    select_from(GROUP, keys)
}

fn item(key: &str, content: &str) -> Item {
    Item {
        key: key.to_owned(),
        content: content.to_owned(),
        group: GROUP.to_owned(),
        ..Item::default()
    }
}

fn tagged(key: &str, content: &str, name: &str, value: &str) -> Item {
    Item {
        tags: HashMap::from([(name.to_owned(), value.to_owned())]),
        ..item(key, content)
    }
}

impl Apollo {
    async fn save(&self, items: Vec<Item>) -> Result<()> {
        self.set("app1", items, &Metadata::new()).await
    }
}

async fn next(subscription: &mut Subscription) -> Item {
    let next = timeout(Duration::from_secs(20), subscription.changes.recv());
    next.await.unwrap().unwrap().remove(0)
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn items_and_tags_are_where_go_sidecars_look_for_them() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    let labelled = Item {
        label: "l".to_owned(),
        ..tagged("k", "labelled", "t", "1")
    };
    store.save(vec![item("k", "v"), labelled.clone()]).await.unwrap();
    assert_eq!(apollo.released(GROUP), map([("k", "v"), ("k@$l", "labelled")]));
    assert_eq!(
        apollo.released(TAGS),
        map([("application@$k@$l", r#"{"t":"1"}"#)])
    );
    assert_eq!(store.get(&select(&[])).await.unwrap(), [item("k", "v")]);
    let label = Selector {
        label: "l".to_owned(),
        ..select(&["k", "missing"])
    };
    assert_eq!(store.get(&label).await.unwrap(), [labelled]);
    store.delete(&label).await.unwrap();
    store.delete(&label).await.unwrap();
    assert_eq!(
        (apollo.released(GROUP), apollo.released(TAGS)),
        (map([("k", "v")]), map([]))
    );
}

/// What was asked of the open API so far, in order: a method and a namespace, or a release of one.
fn changes(apollo: &StandIn) -> Vec<String> {
    let requests = apollo.requests().into_iter();
    let changes = requests.filter_map(|(method, target, _)| {
        let (_, place) = target.split_once("/namespaces/")?;
        let (namespace, what) = place.split_once('/')?;
        let verb = if what == "releases" { "release" } else { &method };
        Some(format!("{verb} {namespace}"))
    });
    changes.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_released_before_their_items_and_after_a_removal() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    let items = vec![tagged("a", "1", "t", "1"), tagged("b", "2", "t", "2")];
    store.save(items).await.unwrap();
    let set = [
        "PUT sidecar_config_tags",
        "PUT sidecar_config_tags",
        "release sidecar_config_tags",
        "PUT application",
        "PUT application",
        "release application",
    ];
    assert_eq!(changes(&apollo), set);
    store.delete(&select(&["a", "b"])).await.unwrap();
    let mut removed = changes(&apollo).split_off(set.len());
    let releases = removed.split_off(4);
    assert_eq!(releases, ["release application", "release sidecar_config_tags"]);
    removed.sort();
    let items = ["DELETE application"; 2];
    assert_eq!(removed, [items, ["DELETE sidecar_config_tags"; 2]].concat());
    // Without tags there is nothing of them to release.
    store.save(vec![item("c", "3")]).await.unwrap();
    let last = changes(&apollo).split_off(set.len() + 6);
    assert_eq!(last, ["PUT application", "release application"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_not_sent_again() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    apollo.publish(GROUP, "k", "v");
    apollo.publish(TAGS, "application@$k", r#"{"t":"1"}"#);
    for _ in 0..2 {
        assert_eq!(
            store.get(&select(&["k"])).await.unwrap(),
            [tagged("k", "v", "t", "1")]
        );
    }
    let requests = apollo.requests();
    let reads: Vec<_> = requests
        .iter()
        .filter(|(_, path, _)| path.starts_with("/configs/"))
        .collect();
    let statuses: Vec<_> = reads.iter().map(|(_, _, status)| *status).collect();
    assert_eq!(statuses, [200, 200, 304, 304], "{reads:?}");
    // The meta server is asked once.
    assert_eq!(
        requests
            .iter()
            .filter(|(_, path, _)| path.starts_with("/services/"))
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_signed_with_the_access_key() {
    let apollo = StandIn::start().await;
    apollo.sign_with(SECRET);
    apollo.publish(GROUP, "k", "v");
    for (secret, works) in [(SECRET, true), ("guess", false), ("", false)] {
        let (store, _folder) = open(Config {
            secret: Secret::new(secret.to_owned()),
            ..config(&apollo)
        })
        .await;
        let found = store.get(&select(&["k"])).await;
        match works {
            true => assert_eq!(found.unwrap(), [item("k", "v")]),
            false => assert_eq!(found.unwrap_err().kind(), ErrorKind::Unauthenticated),
        }
        if works {
            let mut subscription = store.subscribe(&select(&["k"])).await.unwrap();
            apollo.publish(GROUP, "k", "signed");
            assert_eq!(next(&mut subscription).await, item("k", "signed"));
            apollo.publish(GROUP, "k", "v");
        }
    }
}

// deviation: D106
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_apollo_refuses_is_an_error() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    for (status, kind) in [
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::PermissionDenied),
        (500, ErrorKind::Internal),
        (503, ErrorKind::Unavailable),
    ] {
        apollo.break_writes(Some(status));
        let saved = store.save(vec![item("k", "v")]).await.unwrap_err();
        assert_eq!(saved.kind(), kind);
        assert!(!saved.message().contains(apollo.token()));
        assert_eq!(store.delete(&select(&["k"])).await.unwrap_err().kind(), kind);
    }
    apollo.break_writes(None);
    store.save(vec![item("k", "v")]).await.unwrap();
    let (stranger, _folder) = open(Config {
        open_api_token: Secret::new("guess".to_owned()),
        ..config(&apollo)
    })
    .await;
    let refused = stranger.save(vec![item("k", "v")]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
}

// deviation: D107
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_made_when_it_is_first_written_to() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    let new = Item {
        group: "new".to_owned(),
        ..item("k", "v")
    };
    assert_eq!(store.get(&select_from("new", &["k"])).await.unwrap(), []);
    store.save(vec![new.clone()]).await.unwrap();
    assert_eq!(store.get(&select_from("new", &["k"])).await.unwrap(), [new]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_apollo_cannot_hold_are_refused() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    for key in ["", ".", "..", "a@$b"] {
        let refused = store.save(vec![item(key, "v")]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{key:?}");
    }
    for key in ["a/b", "a?b=c", "a#b", "a%2Fb", "ключ", "a+b c"] {
        store.save(vec![item(key, key)]).await.unwrap();
        assert_eq!(store.get(&select(&[key])).await.unwrap(), [item(key, key)]);
        store.delete(&select(&[key])).await.unwrap();
        assert_eq!(apollo.released(GROUP), map([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_apollo_is_away_what_was_read_last_is_served_also_after_a_start() {
    let mut apollo = StandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    apollo.publish(GROUP, "k", "v");
    let store = open_in(&folder, config(&apollo)).await;
    store.get(&select(&["k"])).await.unwrap();
    for namespace in ["application", "sidecar%5Fconfig%5Ftags"] {
        let file = folder
            .path()
            .join(format!("apollo/app1+default+{namespace}.json"));
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(folder.path().join("apollo")).unwrap().count(), 2);
    apollo.kill();
    assert_eq!(store.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
    let saved = store.save(vec![item("k", "w")]).await.unwrap_err();
    assert_eq!(saved.kind(), ErrorKind::Unavailable);
    drop(store);
    let store = open_in(&folder, config(&apollo)).await;
    assert_eq!(store.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let unknown = store.get(&select_from("never", &["k"])).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unavailable);
    // The namespace of tags was never there: none are known, and none are needed.
    assert_eq!(store.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
    apollo.resume().await;
    apollo.publish(GROUP, "k", "w");
    let begun = Instant::now();
    while store.get(&select(&["k"])).await.unwrap() != [item("k", "w")] {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_backup_nothing_is_written_to_disk() {
    let apollo = StandIn::start().await;
    apollo.publish(GROUP, "k", "v");
    let (store, folder) = open(Config {
        is_backup_config: false,
        ..config(&apollo)
    })
    .await;
    store.get(&select(&["k"])).await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_a_meta_server_names_are_used_and_left_for_others() {
    let (mut one, mut other, meta) = (
        StandIn::start().await,
        StandIn::start().await,
        StandIn::start().await,
    );
    meta.name_services(&[one.url(), other.url()]);
    one.publish(GROUP, "k", "v");
    other.publish(GROUP, "k", "v");
    let (store, _folder) = open(config(&meta)).await;
    assert_eq!(store.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
    one.kill();
    assert_eq!(store.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
    let reads = |apollo: &StandIn| {
        apollo
            .requests()
            .iter()
            .filter(|(_, path, _)| path.starts_with("/configs/"))
            .count()
    };
    let begun = Instant::now();
    while reads(&other) == 0 {
        store.get(&select(&["k"])).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(reads(&meta), 0);
    other.kill();
}

/// Accepts connections and answers nothing.
async fn silent() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_finds_a_service_away_goes_on_to_the_next() {
    let (mut one, other, meta) = (
        StandIn::start().await,
        StandIn::start().await,
        StandIn::start().await,
    );
    one.kill();
    meta.name_services(&[one.url(), other.url()]);
    other.publish(GROUP, "k", "v");
    // Which one is asked first is chosen anew each time.
    for _ in 0..8 {
        let (store, _folder) = open(config(&meta)).await;
        assert_eq!(store.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_is_away_keeps_nobody_from_reading() {
    let (apollo, mut portal) = (StandIn::start().await, StandIn::start().await);
    portal.kill();
    apollo.publish(GROUP, "k", "v");
    let (store, folder) = open(Config {
        open_api_address: portal.url(),
        is_backup_config: false,
        ..config(&apollo)
    })
    .await;
    let refused = store.save(vec![item("k", "w")]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(store.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_accepts_and_does_not_answer_is_left() {
    let (other, meta, silent) = (StandIn::start().await, StandIn::start().await, silent().await);
    meta.name_services(&[format!("http://{}", silent.local_addr().unwrap()), other.url()]);
    other.publish(GROUP, "k", "v");
    let brief = |apollo| Config {
        timeout: Some(Seconds(Duration::from_millis(500))),
        ..config(apollo)
    };
    for _ in 0..8 {
        let (store, _folder) = open(brief(&meta)).await;
        let found = timeout(Duration::from_secs(10), store.get(&select(&["k"]))).await;
        assert_eq!(found.unwrap().unwrap(), [item("k", "v")]);
    }
    let (store, _folder) = open(Config {
        address: vec![silent.local_addr().unwrap().to_string()],
        ..brief(&meta)
    })
    .await;
    let found = timeout(Duration::from_secs(10), store.get(&select(&["k"]))).await;
    assert_eq!(found.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_its_callers_give_up_is_left() {
    let (other, meta, silent) = (StandIn::start().await, StandIn::start().await, silent().await);
    meta.name_services(&[format!("http://{}", silent.local_addr().unwrap()), other.url()]);
    other.publish(GROUP, "k", "v");
    for _ in 0..8 {
        let (store, _folder) = open(config(&meta)).await;
        // Time enough for a service that answers.
        let brief = || async { timeout(Duration::from_secs(1), store.get(&select(&["k"]))).await };
        let found = match brief().await {
            Ok(found) => found,
            Err(_) => brief().await.unwrap(),
        };
        assert_eq!(found.unwrap(), [item("k", "v")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_namespace_held_is_served_when_it_is_gone() {
    let apollo = StandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    apollo.publish(GROUP, "k", "v");
    let store = open_in(&folder, config(&apollo)).await;
    store.get(&select(&["k"])).await.unwrap();
    apollo.drop_namespace(GROUP);
    assert_eq!(store.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
    drop(store);
    let store = open_in(&folder, config(&apollo)).await;
    assert_eq!(store.get(&select(&["k"])).await.unwrap(), [item("k", "v")]);
    assert_eq!(store.get(&select_from("never", &["k"])).await.unwrap(), []);
    // The next release counts again.
    let mut subscription = store.subscribe(&select(&["k"])).await.unwrap();
    apollo.publish(GROUP, "k", "new");
    assert_eq!(next(&mut subscription).await, item("k", "new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_in_a_missing_group_is_no_error() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    store.delete(&select_from("never", &["k"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_refused_for_one_of_its_names_changes_nothing() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    store.save(vec![item("k", "v")]).await.unwrap();
    let before = changes(&apollo).len();
    for wrong in ["", "..", "a@$b"] {
        let refused = store.delete(&select(&["k", wrong])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        let refused = store
            .save(vec![item("k", "w"), item(wrong, "w")])
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(changes(&apollo).len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_every_change_also_those_made_while_apollo_was_away() {
    let mut apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    store
        .save(vec![item("a", "1"), item("b", "1"), item("other", "1")])
        .await
        .unwrap();
    let mut some = store.subscribe(&select(&["a", "b", "c"])).await.unwrap();
    store.save(vec![tagged("c", "1", "t", "x")]).await.unwrap();
    assert_eq!(next(&mut some).await, tagged("c", "1", "t", "x"));
    // The tags alone.
    store.save(vec![tagged("c", "1", "t", "y")]).await.unwrap();
    assert_eq!(next(&mut some).await, tagged("c", "1", "t", "y"));
    apollo.kill();
    apollo.publish(GROUP, "a", "2");
    apollo.resume().await;
    assert_eq!(next(&mut some).await, item("a", "2"));
    store.delete(&select(&["b"])).await.unwrap();
    assert_eq!(next(&mut some).await, item("b", ""));
    let waiting = apollo
        .requests()
        .iter()
        .filter(|(_, path, _)| path.starts_with("/notifications/"))
        .count();
    assert!(waiting < 30, "{waiting}");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_end_each_for_itself() {
    let apollo = StandIn::start().await;
    let (store, _folder) = open(config(&apollo)).await;
    let first = store.subscribe(&select(&["k"])).await.unwrap();
    let mut second = store.subscribe(&select(&[])).await.unwrap();
    drop(first);
    store.save(vec![item("k", "1")]).await.unwrap();
    assert_eq!(next(&mut second).await, item("k", "1"));
    store.close().await.unwrap();
    assert!(second.changes.recv().await.is_none());
    store.cx.tasks.close();
    timeout(Duration::from_secs(5), store.cx.tasks.wait())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn apollos_own_mock_is_read_and_pushes() {
    needs!(PROGRAM);
    let mock = Mock::start(&[GROUP, TAGS]).await.unwrap();
    let apollo = StandIn::start().await;
    let (store, _folder) = open(Config {
        address: vec![mock.url().to_owned()],
        ..config(&apollo)
    })
    .await;
    store.ping().await.unwrap();
    assert_eq!(
        store.get(&select(&["start", "k"])).await.unwrap(),
        [item("start", "1")]
    );
    let mut subscription = store.subscribe(&select(&["k", "start"])).await.unwrap();
    mock.set(TAGS, "application@$k", r#"{"t":"1"}"#).unwrap();
    for content in ["v1", "v2"] {
        mock.set(GROUP, "k", content).unwrap();
        assert_eq!(next(&mut subscription).await, tagged("k", content, "t", "1"));
        assert_eq!(
            store.get(&select(&["k"])).await.unwrap(),
            [tagged("k", content, "t", "1")]
        );
    }
    mock.delete(GROUP, "k").unwrap();
    assert_eq!(next(&mut subscription).await, item("k", ""));
}

#[tokio::test]
async fn settings_that_are_missing_are_named() {
    let apollo = StandIn::start().await;
    let refused = async |config: Config| {
        let opened = Apollo::open(config, Context::standalone("test", ".")).await;
        opened.err().unwrap().message().to_owned()
    };
    let no_token = Config {
        open_api_token: Secret::default(),
        ..config(&apollo)
    };
    assert_eq!(refused(no_token).await, "open_api_token: needed");
    let no_address = Config {
        address: Vec::new(),
        ..config(&apollo)
    };
    assert_eq!(
        refused(no_address).await,
        "address: expected a URL such as \"http://127.0.0.1:8080\""
    );
}
