//! How assertions say what is wrong.

use std::{fmt::Debug, time::Duration};

use layotto_core::{Error, ErrorKind};

use super::Verified;

/// Leaves the assertion with a message where a condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// Results whose error becomes the assertion's message.
pub trait OrSay<T> {
    /// The value, or what was tried and why it failed.
    fn or_say(self, tried: &str) -> Result<T, String>;
}

impl<T> OrSay<T> for Result<T, Error> {
    fn or_say(self, tried: &str) -> Result<T, String> {
        self.map_err(|error| format!("{tried}: {error} ({:?})", error.kind()))
    }
}

/// Fails unless both are equal.
pub fn equal<T: PartialEq + Debug>(what: &str, found: &T, wanted: &T) -> Verified {
    if found == wanted {
        return Ok(());
    }
    Err(format!(
        "{what}: found {}, wanted {}",
        short(found),
        short(wanted)
    ))
}

/// Fails unless the call failed with one of `kinds`.
pub fn fails<T: Debug>(tried: &str, result: Result<T, Error>, kinds: &[ErrorKind]) -> Verified {
    match result {
        Err(error) if kinds.contains(&error.kind()) => Ok(()),
        Err(error) => Err(format!(
            "{tried}: failed with {:?} ({error}), wanted {kinds:?}",
            error.kind()
        )),
        Ok(value) => Err(format!("{tried}: gave {}, wanted {kinds:?}", short(&value))),
    }
}

/// The debug form, cut where it is long.
pub fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}… ({} characters)", text.split_at(end).0, text.chars().count()),
        None => text,
    }
}

/// What `future` gives within `limit`, or a message that says what was awaited.
pub async fn within<T>(limit: Duration, awaited: &str, future: impl Future<Output = T>) -> Result<T, String> {
    let result = tokio::time::timeout(limit, future).await;
    result.map_err(|_| format!("{awaited}: not within {limit:?}"))
}

/// Asks every few milliseconds until there is an answer, for at most `limit`.
pub async fn poll<T, F: Future<Output = Result<Option<T>, String>>>(
    limit: Duration,
    awaited: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T, String> {
    let asking = async {
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(limit, awaited, asking).await?
}
