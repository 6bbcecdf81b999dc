//! What every component of a kind must do, as named assertions over the traits of `layotto-core`.
//!
//! An assertion has its own keys, so that all of a kind run at once on one component; those that
//! need other settings, or a restart, open a component of their own.

pub mod binding;
pub mod check;
pub mod common;
pub mod configuration;
pub mod custom;
pub mod file;
pub mod hello;
pub mod lock;
pub mod pubsub;
pub mod rpc;
pub mod secret;
pub mod sequencer;
pub mod state;
pub mod subject;

use std::{pin::Pin, time::Duration};

pub use self::subject::Subject;

/// What an assertion found: nothing, or what is wrong.
pub type Verified = Result<(), String>;

/// An assertion at work.
pub type Trial = Pin<Box<dyn Future<Output = Verified>>>;

/// How long an assertion waits for something that a correct component does at once.
pub const DEADLINE: Duration = Duration::from_secs(7);

/// One thing that a component must do.
pub struct Assertion<T: ?Sized> {
    /// Its name, unique within the kind.
    pub name: &'static str,
    /// Why it does not apply to the component; `None` where it does.
    pub needs: fn(&Subject<T>) -> Option<&'static str>,
    /// Finds out whether it holds. The future stays on the thread that made it.
    pub run: fn(Subject<T>) -> Trial,
}

impl<T: ?Sized> Clone for Assertion<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Assertion<T> {}

/// Applies to every component.
pub fn always<T: ?Sized>(_: &Subject<T>) -> Option<&'static str> {
    None
}

/// Applies to components that keep their data over a restart.
pub fn durable<T: ?Sized>(subject: &Subject<T>) -> Option<&'static str> {
    (!subject.fixture.facts.durable).then_some("keeps nothing over a restart")
}

/// Lists functions as assertions of the same name, in groups with what each group needs.
macro_rules! assertions {
    ($($needs:expr => [$($run:path),* $(,)?]),* $(,)?) => {
        vec![$($($crate::conformance::Assertion {
            name: $crate::conformance::last_segment(stringify!($run)),
            needs: $needs,
            run: |subject| Box::pin($run(subject)),
        }),*),*]
    };
}
pub(crate) use assertions;

/// The function's name in the path by which it was listed.
pub(crate) fn last_segment(path: &'static str) -> &'static str {
    path.rsplit("::").next().unwrap_or(path).trim()
}
