//! Custom components: kinds that this project does not know, compiled in by whoever extends it.

use crate::Component;

/// A component of a custom kind; the code that defines the kind knows what else it can do.
pub trait Custom: Component {}
