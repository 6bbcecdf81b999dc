//! Settings that components of ZooKeeper share.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// Declares the settings of a component over ZooKeeper: its own, and those of the access.
macro_rules! settings {
    ($(#[$about:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($own)*
            /// The user to log in as, by the scheme `digest`. Default: nobody.
            #[serde(default)]
            pub username: String,
            /// The user's password; never logged.
            #[serde(default)]
            pub password: layotto_core::Secret,
        }

        impl $name {
            fn access(&self, cx: &layotto_core::Context) -> layotto_core::Result<$crate::client::zookeeper::Access> {
                let given = $crate::client::zookeeper::Given {
                    username: &self.username,
                    password: &self.password,
                };
                $crate::client::zookeeper::Access::new(&given, cx)
            }
        }
    };
}
pub(crate) use settings;

/// How long the servers keep a session whose connection is gone, in whole seconds.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Seconds(pub u32);

impl Default for Seconds {
    fn default() -> Self {
        Self(5)
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        Duration::from_secs(seconds.0.into())
    }
}

/// A setting of upstream that is accepted, whatever it is, and changes nothing. It is not kept: it
/// may be a password.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unused;

impl<'de> Deserialize<'de> for Unused {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Unused {
    fn schema_name() -> Cow<'static, str> {
        "Unused".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string"})
    }

    fn inline_schema() -> bool {
        true
    }
}
