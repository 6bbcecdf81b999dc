//! Configuration stores.

pub mod apollo;
pub mod embedded;
pub mod etcd;
mod feed;
pub mod memory;

use layotto_core::{Error, Result, configuration::Item};

pub use self::{apollo::Apollo, embedded::Embedded, etcd::Etcd, memory::Memory};

/// The group and label of requests that name none.
const DEFAULT: &str = "default";

/// Refuses a save without items, as Go Layotto's store in memory does.
fn check_items(items: &[Item]) -> Result<()> {
    if items.is_empty() {
        return Err(Error::invalid("params illegal:item is empty"));
    }
    Ok(())
}

/// The change that tells of the deletion of an item.
fn deletion(item: Item) -> Item {
    Item {
        key: item.key,
        group: item.group,
        label: item.label,
        ..Item::default()
    }
}

#[cfg(test)]
mod tests;
