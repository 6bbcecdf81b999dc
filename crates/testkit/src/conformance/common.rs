//! What a component of any kind must do.

use layotto_core::{Component, ErrorKind, Settings};

use super::{
    Assertion, DEADLINE, Subject, Verified, always, assertions,
    check::{OrSay, ensure, fails, within},
};

/// The assertions of every kind.
pub fn assertions<T: ?Sized + Component>() -> Vec<Assertion<T>> {
    assertions! {
        always => [
            ping_says_that_it_is_there,
            close_ends,
            settings_are_applied_only_by_dynamic_components,
            unknown_settings_are_named,
        ],
    }
}

async fn ping_says_that_it_is_there<T: ?Sized + Component>(subject: Subject<T>) -> Verified {
    within(DEADLINE, "ping", subject.ping()).await?.or_say("ping")
}

async fn close_ends<T: ?Sized + Component>(subject: Subject<T>) -> Verified {
    let own = subject.fresh([]).await?;
    within(DEADLINE, "close", own.close()).await?.or_say("close")
}

async fn settings_are_applied_only_by_dynamic_components<T: ?Sized + Component>(
    subject: Subject<T>,
) -> Verified {
    let own = subject.fresh([]).await?;
    let applied = own.apply(own.fixture.settings.clone()).await;
    if own.is_dynamic() {
        return applied.or_say("applying its own settings");
    }
    fails("applying settings", applied, &[ErrorKind::Unsupported])?;
    fails(
        "applying no settings",
        own.apply(Settings::default()).await,
        &[ErrorKind::Unsupported],
    )
}

async fn unknown_settings_are_named<T: ?Sized + Component>(subject: Subject<T>) -> Verified {
    let unknown = subject.unknown_with("noSuchSetting")?;
    ensure!(
        unknown.iter().any(|path| path == "noSuchSetting"),
        "an unknown setting went unnoticed; reported: {unknown:?}"
    );
    Ok(())
}
