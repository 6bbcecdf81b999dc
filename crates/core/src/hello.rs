//! Greetings: the building block that shows that an installation works.

use async_trait::async_trait;

use crate::{Component, Result};

/// A component that greets.
#[async_trait]
pub trait Hello: Component {
    /// The greeting for `name`, which may be empty.
    async fn hello(&self, name: &str) -> Result<String>;
}
