use std::sync::atomic::{AtomicUsize, Ordering};

use layotto_core::{
    Open,
    health::{Health, Required},
    hello::Hello,
    key_prefix::{KeyPrefix, Scope},
};
use tokio::sync::Semaphore;

use super::*;
use crate::part::Parts;

/// What the components of one test have in common.
#[derive(Default)]
struct Shared {
    opened: AtomicUsize,
    closed: AtomicUsize,
    /// Whether the product answers the components that are opened next.
    is_away: std::sync::Mutex<bool>,
}

struct Greeter {
    shared: Arc<Shared>,
    is_away: bool,
}

/// Each opening takes a permit.
type Gate = Semaphore;

impl Open for Greeter {
    const TYPE: &'static str = "greeter";
    type Config = std::collections::HashMap<String, String>;

    async fn open(_: Self::Config, cx: Context) -> Result<Self> {
        let shared = shared(&cx).await;
        shared.opened.fetch_add(1, Ordering::SeqCst);
        gate(&cx).await.acquire().await.unwrap().forget();
        let is_away = *shared.is_away.lock().unwrap();
        Ok(Self { shared, is_away })
    }
}

#[async_trait]
impl Component for Greeter {
    async fn ping(&self) -> Result<()> {
        match self.is_away {
            true => Err(Error::unavailable("away")),
            false => Ok(()),
        }
    }

    async fn close(&self) -> Result<()> {
        self.shared.closed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl Hello for Greeter {
    async fn hello(&self, _: &str) -> Result<String> {
        Ok(String::new())
    }
}

async fn shared(cx: &Context) -> Arc<Shared> {
    cx.shared
        .get_or_open("test", async || Ok(Shared::default()))
        .await
        .unwrap()
}

async fn gate(cx: &Context) -> Arc<Gate> {
    cx.shared
        .get_or_open("test", async || Ok(Semaphore::new(0)))
        .await
        .unwrap()
}

struct Test {
    opener: Arc<Opener<dyn Hello>>,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
}

impl Test {
    /// A component that can be opened `times` times.
    async fn new(times: usize) -> Self {
        let mut registry = Registry::default();
        registry.hello.add::<Greeter>(|greeter| Arc::new(greeter));
        let context = Context::standalone("h", std::env::temp_dir());
        let (shared, gate) = (shared(&context).await, gate(&context).await);
        gate.add_permits(times);
        let member = Parts::new(Health::default()).join("hellos.h", Required::Start);
        let prefix = KeyPrefix::new(Scope::State, None, "", "").unwrap();
        let opener = Opener {
            section: "hellos".to_owned(),
            slot: Arc::new(Slot::new("h", "greeter", prefix, member.indicator())),
            config: config(),
            registry: Arc::new(registry),
            select: Box::new(|registry| Some(&registry.hello)),
            context,
            secrets: Arc::default(),
            prepare: Box::new(Ready),
            member,
            backoff: Backoff::default(),
            turn: Mutex::default(),
        };
        Self {
            opener: Arc::new(opener),
            shared,
            gate,
        }
    }

    fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    fn closed(&self) -> usize {
        self.shared.closed.load(Ordering::SeqCst)
    }
}

fn config() -> ComponentConfig {
    ComponentConfig {
        kind: "hellos".to_owned(),
        name: "h".to_owned(),
        type_name: "greeter".to_owned(),
        settings: Settings::default(),
        secret_ref: Vec::new(),
        component_ref: crate::config::ComponentRef::default(),
        required: Required::Start,
        bigger_than: std::collections::BTreeMap::new(),
        connection: None,
        place: crate::config::Place::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_component_is_closed_once_its_calls_have_ended() {
    let test = Test::new(2).await;
    test.opener.open().await.unwrap();
    let call = test.opener.slot.get().unwrap();
    test.opener.open().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(test.closed(), 0, "a call is under way");
    drop(call);
    test.opener.context.tasks.close();
    test.opener.context.tasks.wait().await;
    assert_eq!(test.closed(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_component_is_closed_at_shutdown() {
    let test = Test::new(2).await;
    test.opener.open().await.unwrap();
    let _call = test.opener.slot.get().unwrap();
    test.opener.open().await.unwrap();
    test.opener.context.shutdown.cancel();
    test.opener.close().await;
    test.opener.context.tasks.close();
    test.opener.context.tasks.wait().await;
    assert_eq!(test.closed(), 2);
    assert!(test.opener.open().await.is_err(), "nothing opens any more");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_opened_twice_at_once() {
    let test = Test::new(0).await;
    let opener = Arc::clone(&test.opener);
    let opening = tokio::spawn(async move { opener.open().await });
    while test.opened() == 0 {
        tokio::task::yield_now().await;
    }
    test.opener.check().await;
    assert_eq!(test.opened(), 1);
    test.gate.add_permits(1);
    opening.await.unwrap().unwrap();
    assert_eq!(test.opener.status(), Status::Up);
}

#[tokio::test(start_paused = true)]
async fn an_opening_that_hangs_fails_in_the_end() {
    let test = Test::new(0).await;
    let error = test.opener.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(test.opener.status(), Status::Down);
    test.gate.add_permits(1);
    test.opener.check().await;
    assert_eq!(test.opener.status(), Status::Up);
}

#[tokio::test(start_paused = true)]
async fn what_works_is_kept_when_a_new_one_does_not() {
    let test = Test::new(2).await;
    test.opener.open().await.unwrap();
    let first = test.opener.slot.get().unwrap();
    *test.shared.is_away.lock().unwrap() = true;
    test.opener.open().await.unwrap_err();
    assert!(Arc::ptr_eq(&first, &test.opener.slot.get().unwrap()));
    assert_eq!(test.opener.status(), Status::Up);
    test.opener.context.tasks.close();
    test.opener.context.tasks.wait().await;
    assert_eq!(test.closed(), 1, "the new one");
}

#[tokio::test(start_paused = true)]
async fn the_first_one_is_in_place_although_its_product_is_away() {
    let test = Test::new(1).await;
    *test.shared.is_away.lock().unwrap() = true;
    test.opener.open().await.unwrap_err();
    assert!(test.opener.slot.get().is_ok());
    assert_eq!(test.opener.status(), Status::Down);
}
