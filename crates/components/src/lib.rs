//! Every back end of the runtime API, and their registration.

pub mod binding;
mod client;
mod clock;
pub mod configuration;
pub mod custom;
mod expiring;
pub mod file;
pub mod hello;
pub mod lock;
mod network;
mod os_text;
pub mod pubsub;
#[cfg(test)]
mod raw_http;
pub mod rpc;
mod seconds;
pub mod secret;
pub mod sequencer;
pub mod state;

use std::sync::Arc;

use layotto_core::Registry;

/// Registers every back end: one line each.
pub fn register(registry: &mut Registry) {
    registry.binding.add(|c: binding::Http| Arc::new(c));
    registry.configuration.add(|c: configuration::Apollo| Arc::new(c));
    registry
        .configuration
        .add(|c: configuration::Embedded| Arc::new(c));
    registry.configuration.add(|c: configuration::Etcd| Arc::new(c));
    registry.configuration.add(|c: configuration::Memory| Arc::new(c));
    registry.file.add(|c: file::Local| Arc::new(c));
    registry.hello.add(|c: hello::HelloWorld| Arc::new(c));
    registry.lock.add(|c: lock::Embedded| Arc::new(c));
    registry.lock.add(|c: lock::Etcd| Arc::new(c));
    registry.lock.add(|c: lock::Memory| Arc::new(c));
    registry.lock.add(|c: lock::Postgresql| Arc::new(c));
    registry.lock.add(|c: lock::Redis| Arc::new(c));
    registry.lock.add(|c: lock::RedisCluster| Arc::new(c));
    registry.lock.add(|c: lock::Zookeeper| Arc::new(c));
    registry.pubsub.add(|c: pubsub::Embedded| Arc::new(c));
    registry.pubsub.add(|c: pubsub::Kafka| Arc::new(c));
    registry.pubsub.add(|c: pubsub::Memory| Arc::new(c));
    registry.pubsub.add(|c: pubsub::Redis| Arc::new(c));
    registry.rpc.add(|c: rpc::Mosn| Arc::new(c));
    registry.secret.add(|c: secret::LocalEnv| Arc::new(c));
    registry.secret.add(|c: secret::LocalFile| Arc::new(c));
    registry.sequencer.add(|c: sequencer::Embedded| Arc::new(c));
    registry.sequencer.add(|c: sequencer::Etcd| Arc::new(c));
    registry.sequencer.add(|c: sequencer::Memory| Arc::new(c));
    registry.sequencer.add(|c: sequencer::Postgresql| Arc::new(c));
    registry.sequencer.add(|c: sequencer::Redis| Arc::new(c));
    registry.sequencer.add(|c: sequencer::Zookeeper| Arc::new(c));
    registry.state.add(|c: state::Embedded| Arc::new(c));
    registry.state.add(|c: state::Etcd| Arc::new(c));
    registry.state.add(|c: state::Memory| Arc::new(c));
    registry.state.add(|c: state::Postgresql| Arc::new(c));
    registry.state.add(|c: state::Redis| Arc::new(c));
    registry.state.add(|c: state::Zookeeper| Arc::new(c));

    let hello_world = registry.custom("helloworld");
    hello_world.add(|c: custom::helloworld::Goodbye| Arc::new(c));
    hello_world.add(|c: custom::helloworld::InMemory| Arc::new(c));
}
