//! The settings of brokers that deliver themselves, and what follows from them: when to deliver again, when
//! to give up.

use std::time::Duration;

use layotto_core::{Error, GoDuration, Metadata, Result};
use uuid::Uuid;

/// Declares the settings of a broker: those they all have, and its own. `over redis` adds those of
/// a connection to Redis, and leaves it to the broker how long handlers may take by default.
macro_rules! broker_config {
    ($(#[$doc:meta])* { $($(#[$own_doc:meta])* $own:ident: $type:ty = $default:expr,)* }) => {
        $crate::pubsub::policy::broker_config! {
            @fields
            [$crate::pubsub::policy::broker_config] [@declare $(#[$doc])*]
            [
                /// How long a handler may take; then the delivery counts as failed. `0`: no limit.
                /// A subscription's metadata `ackDeadline` overrides it. Default `60s`.
                pub ack_deadline: layotto_core::GoDuration = layotto_core::GoDuration::from_millis(60_000),
            ]
            [$($(#[$own_doc])* pub $own: $type = $default,)*]
        }

        impl Config {
            fn handling(&self) -> std::time::Duration {
                self.ack_deadline.0
            }
        }
    };
    (over redis $(#[$doc:meta])* { $($(#[$own_doc:meta])* $own:ident: $type:ty = $default:expr,)* }) => {
        $crate::pubsub::policy::broker_config! {
            @fields
            [$crate::client::redis::settings] [@broker $(#[$doc])* pub struct Config]
            [
                /// How long a handler may take; then the delivery counts as failed. `0`: no limit.
                /// A subscription's metadata `ackDeadline` overrides it. Default: `processingTimeout`.
                pub ack_deadline: Option<layotto_core::GoDuration>,
            ]
            [$($(#[$own_doc])* pub $own: $type = $default,)*]
        }
    };
    (@fields [$($macro:tt)*] [$($head:tt)*] [$($ack_deadline:tt)*] [$($own:tt)*]) => {
        $($macro)* ! {
            $($head)*
            {
                /// The consumer group of subscriptions that name none. Default: the application's id.
                #[serde(rename = "consumerID")]
                pub consumer_id: String = String::new(),
                /// How often a message is delivered to a group before it is given up: sent to the
                /// dead-letter topic, or dropped where there is none. 0: no limit. Default 10.
                pub max_deliveries: u32 = 10,
                /// The wait before a failed message is delivered again the first time; doubled each
                /// time after, less a random part. Default `100ms`.
                pub redelivery_backoff: layotto_core::GoDuration = layotto_core::GoDuration::from_millis(100),
                /// The longest such wait. Default `30s`.
                pub redelivery_backoff_max: layotto_core::GoDuration
                    = layotto_core::GoDuration::from_millis(30_000),
                $($ack_deadline)*
                /// Where messages go that were given up or dropped, for subscriptions that name no
                /// topic themselves. Default: nowhere.
                pub dead_letter_topic: String = String::new(),
                /// Messages of one subscription handled at once. With 1, they are handled in order.
                /// Default 10.
                pub concurrency: usize = 10,
                $($own)*
            }
        }

        impl Config {
            fn policy(&self, app_id: &str) -> $crate::pubsub::policy::Policy {
                $crate::pubsub::policy::Policy {
                    group: $crate::pubsub::policy::first_filled([&self.consumer_id, app_id, "default"]),
                    max_deliveries: self.max_deliveries,
                    backoff: self.redelivery_backoff.0,
                    backoff_max: self.redelivery_backoff_max.0,
                    ack_deadline: self.handling(),
                    dead_letter_topic: self.dead_letter_topic.clone(),
                    max_queued: usize::MAX,
                    concurrency: self.concurrency.max(1),
                }
            }
        }
    };
    (
        @declare $(#[$doc:meta])*
        { $($(#[$field_doc:meta])* pub $field:ident: $type:ty = $default:expr,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, rename_all = "camelCase")]
        pub struct Config {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

pub(super) use broker_config;

/// How a component, or one subscription of it, delivers.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) group: String,
    pub(super) max_deliveries: u32,
    pub(super) backoff: Duration,
    pub(super) backoff_max: Duration,
    pub(super) ack_deadline: Duration,
    pub(super) dead_letter_topic: String,
    /// Messages that may wait for a group; no limit where the product has its own.
    pub(super) max_queued: usize,
    pub(super) concurrency: usize,
}

impl Policy {
    /// The policy of one subscription.
    pub(super) fn of(&self, group: &str, dead_letter_topic: &str, metadata: &Metadata) -> Result<Self> {
        let named = metadata.get("consumerID").map_or("", |group| group.trim());
        let mut policy = self.clone();
        policy.group = first_filled([group, named, &self.group]);
        policy.dead_letter_topic = first_filled([dead_letter_topic, &self.dead_letter_topic]);
        if let Some(deadline) = metadata.get("ackDeadline") {
            let deadline: GoDuration = deadline
                .parse()
                .map_err(|error| Error::invalid(format!("ackDeadline: {error}")))?;
            policy.ack_deadline = deadline.0;
        }
        Ok(policy)
    }

    /// Whether a message that failed `attempts` times is given up.
    pub(super) fn gives_up(&self, attempts: u32) -> bool {
        self.max_deliveries != 0 && attempts >= self.max_deliveries
    }

    /// The wait after the failure of delivery number `attempts`: doubled each time, and of that
    /// between half and all, so that messages that failed together do not return together.
    pub(super) fn wait(&self, attempts: u32) -> Duration {
        self.wait_with(attempts, Uuid::new_v4().as_u64_pair().1 as u32)
    }

    fn wait_with(&self, attempts: u32, random: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let longest = self.backoff.saturating_mul(doubled).min(self.backoff_max);
        longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// The first text that is not blank; empty where all are.
pub(super) fn first_filled<const N: usize>(texts: [&str; N]) -> String {
    let filled = texts.into_iter().find(|text| !text.trim().is_empty());
    filled.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    broker_config! {
        /// Settings without anything of their own.
        {}
    }

    #[test]
    fn waits_double_up_to_the_longest_and_differ_at_random() {
        let policy = Config::default().policy("app");
        let range = |attempts| {
            (
                policy.wait_with(attempts, 0),
                policy.wait_with(attempts, u32::MAX),
            )
        };
        let millis = Duration::from_millis;
        assert_eq!(range(1), (millis(50), millis(100)));
        assert_eq!(range(2), (millis(100), millis(200)));
        assert_eq!(range(9), (millis(12_800), millis(25_600)));
        assert_eq!(range(10), (millis(15_000), millis(30_000)));
        assert_eq!(range(u32::MAX), (millis(15_000), millis(30_000)));
    }

    #[test]
    fn the_group_is_the_subscriptions_else_the_components_else_the_applications() {
        let config = Config {
            consumer_id: " ".to_owned(),
            ..Config::default()
        };
        let policy = config.policy("app");
        let metadata = Metadata::from([("consumerID".to_owned(), "named".to_owned())]);
        assert_eq!(policy.of("own", "", &metadata).unwrap().group, "own");
        assert_eq!(policy.of("", "", &metadata).unwrap().group, "named");
        assert_eq!(policy.of("", "", &Metadata::new()).unwrap().group, "app");
        assert_eq!(config.policy("").group, "default");
    }

    #[test]
    fn zero_deliveries_means_for_ever() {
        let mut policy = Config::default().policy("app");
        assert!(!policy.gives_up(9) && policy.gives_up(10));
        policy.max_deliveries = 0;
        assert!(!policy.gives_up(u32::MAX));
    }
}
