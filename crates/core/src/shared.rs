//! Clients that several components of the process share: one embedded store, one Redis pool.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Arc, Weak},
};

use tokio::sync::Mutex;

use crate::Result;

type Key = (TypeId, String);

/// The shared clients, by type and by what they connect to; clones share them.
///
/// A client lives as long as a component holds it.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>>);

impl Shared {
    /// The client of type `T` for `target`; `make` opens it when no component holds one.
    pub async fn get_or_open<T, F>(&self, target: &str, make: F) -> Result<Arc<T>>
    where
        T: Any + Send + Sync,
        F: AsyncFnOnce() -> Result<T>,
    {
        let key = (TypeId::of::<T>(), target.to_owned());
        // Held while opening, so that two components never open the same store twice.
        let mut clients = self.0.lock().await;
        if let Some(client) = clients.get(&key).and_then(Weak::upgrade)
            && let Ok(client) = client.downcast::<T>()
        {
            return Ok(client);
        }
        let client = Arc::new(make().await?);
        let erased: Arc<dyn Any + Send + Sync> = client.clone();
        clients.insert(key, Arc::downgrade(&erased));
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_client_for_one_target_while_it_is_held() {
        let shared = Shared::default();
        let first = shared.get_or_open("a", async || Ok(1_u8)).await.unwrap();
        let again = shared.get_or_open("a", async || Ok(2_u8)).await.unwrap();
        let other = shared.get_or_open("b", async || Ok(3_u8)).await.unwrap();
        assert_eq!((*first, *again, *other), (1, 1, 3));
        drop((first, again));
        assert_eq!(*shared.get_or_open("a", async || Ok(4_u8)).await.unwrap(), 4);
    }
}
