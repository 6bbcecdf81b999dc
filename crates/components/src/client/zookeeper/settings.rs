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
            /// Connects with TLS and verifies the server's certificate; the settings below turn it on,
            /// too. Needs a build with TLS for ZooKeeper. Default false.
            #[serde(default, rename = "enableTLS")]
            pub enable_tls: bool,
            /// The authorities whose certificates are accepted: PEM, or a file of it. Default: those of
            /// the system.
            #[serde(default)]
            pub ca_cert: String,
            /// The client's certificate: PEM, or a file of it.
            #[serde(default)]
            pub client_cert: String,
            /// The key of the client's certificate: PEM, or a file of it; never logged.
            #[serde(default)]
            pub client_key: layotto_core::Secret,
        }

        impl $name {
            fn access(&self, cx: &layotto_core::Context) -> layotto_core::Result<$crate::client::zookeeper::Access> {
                let given = $crate::client::zookeeper::Given {
                    username: &self.username,
                    password: &self.password,
                    enable_tls: self.enable_tls,
                    ca_cert: &self.ca_cert,
                    client_cert: &self.client_cert,
                    client_key: &self.client_key,
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
