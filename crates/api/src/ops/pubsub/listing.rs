//! Which topics the application gets, for the actuator.

use crate::listing::Listing;

/// How the application gets a topic's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// By calls of its `AppCallback` service.
    Callback,
    /// By a stream it opened, shared with the other streams of the topic.
    Compete,
    /// By a stream it opened, which gets every event.
    Each,
}

impl Mode {
    /// The mode as the actuator shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Compete => "compete",
            Self::Each => "each",
        }
    }
}

/// One topic that the application gets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// How it gets there.
    pub mode: Mode,
}

/// The live subscriptions; several streams of one topic show once.
pub type Subscriptions = Listing<Listed>;
