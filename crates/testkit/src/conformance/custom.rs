//! Components of custom kinds: nothing is known of them but that they are components.

use layotto_core::custom::Custom;

use super::{Assertion, common};

/// The assertions of a component of a custom kind.
pub fn assertions() -> Vec<Assertion<dyn Custom>> {
    common::assertions()
}
