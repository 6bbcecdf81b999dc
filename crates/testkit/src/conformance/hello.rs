//! Greeters.

use layotto_core::{Settings, hello::Hello};

use super::{
    Assertion, Subject, Verified, always, assertions,
    check::{OrSay, equal},
    common,
};

type Greeter = Subject<dyn Hello>;

/// The assertions of a greeter.
pub fn assertions() -> Vec<Assertion<dyn Hello>> {
    let own: Vec<Assertion<dyn Hello>> = assertions! {
        always => [greets_nobody, greets_by_name, long_and_odd_names_come_back],
        dynamic => [a_new_greeting_is_taken_over],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn dynamic(greeter: &Greeter) -> Option<&'static str> {
    (!greeter.is_dynamic()).then_some("cannot change its settings while it runs")
}

async fn greets_nobody(greeter: Greeter) -> Verified {
    let greeting = greeter.hello("").await.or_say("hello")?;
    equal(
        "greeting without a name",
        &greeting,
        &greeter.fixture.facts.greeting,
    )
}

async fn greets_by_name(greeter: Greeter) -> Verified {
    let greeting = greeter.hello("layotto").await.or_say("hello")?;
    equal(
        "greeting",
        &greeting,
        &format!("{}, layotto", greeter.fixture.facts.greeting),
    )
}

async fn long_and_odd_names_come_back(greeter: Greeter) -> Verified {
    for name in ["%s %d", "名字\u{0}\n", " ", &"x".repeat(100_000)] {
        let greeting = greeter.hello(name).await.or_say("hello")?;
        equal(
            "greeting",
            &greeting,
            &format!("{}, {name}", greeter.fixture.facts.greeting),
        )?;
    }
    Ok(())
}

async fn a_new_greeting_is_taken_over(greeter: Greeter) -> Verified {
    let own = greeter.fresh([]).await?;
    own.apply(Settings::from_iter([("hello", "hi")]))
        .await
        .or_say("applying a greeting")?;
    equal(
        "greeting",
        &own.hello("x").await.or_say("hello")?,
        &"hi, x".to_owned(),
    )?;
    let other = greeter.hello("x").await.or_say("hello")?;
    equal(
        "greeting of another component",
        &other,
        &format!("{}, x", greeter.fixture.facts.greeting),
    )
}
