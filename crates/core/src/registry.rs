//! Which component types exist: one generic registry for every kind of building block.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use schemars::Schema;

use crate::{
    Component, Context, Error, Open, Result, Settings, binding::Binding, configuration::ConfigStore,
    custom::Custom, file::FileStore, hello::Hello, lock::LockStore, pubsub::PubSub, rpc::Invoker,
    secret::SecretStore, sequencer::Sequencer, settings::SettingsError, state::StateStore,
};

type OpenFuture<T> = Pin<Box<dyn Future<Output = Result<Arc<T>>> + Send>>;
type OpenFn<T> = dyn Fn(&Settings, Context) -> OpenFuture<T> + Send + Sync;

/// A component type: its name, its settings, and how to open it.
pub struct TypeInfo<T: ?Sized> {
    name: &'static str,
    schema: fn() -> Schema,
    check: fn(&Settings) -> Result<Vec<String>, SettingsError>,
    open: Box<OpenFn<T>>,
}

impl<T: ?Sized> TypeInfo<T> {
    /// Reads the settings without opening anything; the unknown keys are returned.
    pub fn check(&self, settings: &Settings) -> Result<Vec<String>, SettingsError> {
        (self.check)(settings)
    }

    /// Opens a component of this type.
    pub async fn open(&self, settings: &Settings, cx: Context) -> Result<Arc<T>> {
        (self.open)(settings, cx).await
    }
}

/// What tools list of a component type.
#[derive(Debug)]
pub struct Listed {
    /// The type's name in a configuration file.
    pub name: &'static str,
    /// JSON schema of its settings.
    pub schema: Schema,
}

/// The types of one kind of building block.
pub struct Kind<T: ?Sized> {
    section: &'static str,
    types: BTreeMap<&'static str, TypeInfo<T>>,
    planned: &'static [&'static str],
}

impl<T: ?Sized + Component> Kind<T> {
    fn new(section: &'static str, planned: &'static [&'static str]) -> Self {
        Self {
            section,
            types: BTreeMap::new(),
            planned,
        }
    }

    /// Registers component `C`; `erase` is always `|c| Arc::new(c)`.
    pub fn add<C: Open>(&mut self, erase: fn(C) -> Arc<T>) {
        let info = TypeInfo {
            name: C::TYPE,
            schema: || schemars::schema_for!(C::Config),
            check: |settings| settings.parse::<C::Config>().map(|parsed| parsed.unknown),
            open: Box::new(move |settings, cx| {
                let parsed = settings.parse::<C::Config>();
                Box::pin(async move {
                    let config = parsed.map_err(|error| Error::invalid(error.to_string()))?.config;
                    C::open(config, cx).await.map(erase)
                })
            }),
        };
        self.types.insert(C::TYPE, info);
    }

    /// The section of `grpc_config` that configures this kind, such as `pub_subs`.
    pub fn section(&self) -> &'static str {
        self.section
    }

    /// The type called `name`.
    pub fn get(&self, name: &str) -> Option<&TypeInfo<T>> {
        self.types.get(name)
    }

    /// Whether `name` is a type that upstream has and this registry does not have yet.
    pub fn is_planned(&self, name: &str) -> bool {
        self.planned.contains(&name)
    }

    /// The names of the registered types.
    pub fn names(&self) -> Vec<&'static str> {
        self.types.keys().copied().collect()
    }
}

/// A kind of building block without its trait: what tools need of it.
pub trait AnyKind {
    /// The section of `grpc_config`.
    fn section(&self) -> &'static str;
    /// The registered types.
    fn listed(&self) -> Vec<Listed>;
    /// Types that upstream has and this registry does not have yet.
    fn planned(&self) -> Vec<&'static str>;
    /// Reads the settings of a component of type `name`; `None` where the type is not registered.
    fn check(&self, name: &str, settings: &Settings) -> Option<Result<Vec<String>, SettingsError>>;
}

impl<T: ?Sized + Component> AnyKind for Kind<T> {
    fn section(&self) -> &'static str {
        self.section
    }

    fn listed(&self) -> Vec<Listed> {
        self.types
            .values()
            .map(|info| Listed {
                name: info.name,
                schema: (info.schema)(),
            })
            .collect()
    }

    fn planned(&self) -> Vec<&'static str> {
        self.planned
            .iter()
            .copied()
            .filter(|name| !self.types.contains_key(name))
            .collect()
    }

    fn check(&self, name: &str, settings: &Settings) -> Option<Result<Vec<String>, SettingsError>> {
        self.types.get(name).map(|info| info.check(settings))
    }
}

/// Every kind of building block.
pub struct Registry {
    /// `hellos`
    pub hello: Kind<dyn Hello>,
    /// `config_store`
    pub configuration: Kind<dyn ConfigStore>,
    /// `rpcs`
    pub rpc: Kind<dyn Invoker>,
    /// `pub_subs`
    pub pubsub: Kind<dyn PubSub>,
    /// `state`
    pub state: Kind<dyn StateStore>,
    /// `file`
    pub file: Kind<dyn FileStore>,
    /// `lock`
    pub lock: Kind<dyn LockStore>,
    /// `sequencer`
    pub sequencer: Kind<dyn Sequencer>,
    /// `secret_store`
    pub secret: Kind<dyn SecretStore>,
    /// `bindings`
    pub binding: Kind<dyn Binding>,
    /// `custom_component`, by the custom kind.
    pub custom: BTreeMap<&'static str, Kind<dyn Custom>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            hello: Kind::new("hellos", &[]),
            configuration: Kind::new("config_store", &["apollo", "etcd", "nacos"]),
            rpc: Kind::new("rpcs", &[]),
            pubsub: Kind::new(
                "pub_subs",
                &[
                    "redis",
                    "natsstreaming",
                    "azure.eventhubs",
                    "azure.servicebus",
                    "rabbitmq",
                    "hazelcast",
                    "gcp.pubsub",
                    "kafka",
                    "snssqs",
                    "mqtt",
                    "pulsar",
                    "jetstream",
                    "rocketmq",
                ],
            ),
            state: Kind::new(
                "state",
                &[
                    "redis",
                    "etcd",
                    "mongodb",
                    "mysql",
                    "postgresql",
                    "sqlserver",
                    "rethinkdb",
                    "azure.cosmosdb",
                    "zookeeper",
                    "azure.blobstorage",
                    "azure.tablestorage",
                    "cloudstate.crdt",
                    "couchbase",
                    "aerospike",
                    "consul",
                    "cassandra",
                    "memcached",
                    "gcp.firestore",
                    "hazelcast",
                    "aws.dynamodb",
                ],
            ),
            file: Kind::new(
                "file",
                &[
                    "aliyun.oss",
                    "minio",
                    "aws.s3",
                    "tencent.oss",
                    "qiniu.oss",
                    "hdfs",
                ],
            ),
            lock: Kind::new(
                "lock",
                &[
                    "redis",
                    "redis_cluster",
                    "zookeeper",
                    "etcd",
                    "consul",
                    "mongo",
                    "postgresql",
                ],
            ),
            sequencer: Kind::new(
                "sequencer",
                &[
                    "etcd",
                    "redis",
                    "zookeeper",
                    "mongo",
                    "mysql",
                    "snowflake",
                    "postgresql",
                ],
            ),
            secret: Kind::new(
                "secret_store",
                &[
                    "kubernetes",
                    "azure.keyvault",
                    "hashicorp.vault",
                    "aws.secretmanager",
                    "aws.parameterstore",
                    "gcp.secretmanager",
                ],
            ),
            binding: Kind::new("bindings", &[]),
            custom: BTreeMap::new(),
        }
    }
}

impl Registry {
    /// The types of custom kind `kind`, made empty when it is new.
    pub fn custom(&mut self, kind: &'static str) -> &mut Kind<dyn Custom> {
        self.custom.entry(kind).or_insert_with(|| Kind::new(kind, &[]))
    }

    /// Every kind, in the order in which components are opened; custom kinds come last.
    pub fn kinds(&self) -> Vec<&dyn AnyKind> {
        let mut kinds: Vec<&dyn AnyKind> = vec![
            &self.secret,
            &self.configuration,
            &self.hello,
            &self.state,
            &self.rpc,
            &self.binding,
            &self.pubsub,
            &self.file,
            &self.lock,
            &self.sequencer,
        ];
        kinds.extend(self.custom.values().map(|kind| kind as &dyn AnyKind));
        kinds
    }
}
