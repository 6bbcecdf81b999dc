//! Lock stores.

pub mod embedded;
pub mod memory;

use layotto_core::lock::Status;

pub use self::{embedded::Embedded, memory::Memory};

/// What `owner` may do with a lock that `holder` holds.
fn standing(holder: Option<&str>, owner: &str) -> Status {
    match holder {
        None => Status::Unexist,
        Some(holder) if holder == owner => Status::Success,
        Some(_) => Status::BelongsToOthers,
    }
}

#[cfg(test)]
mod tests;
