//! Kafka: one broker that is its own controller.

mod metadata;

use std::{net::SocketAddr, process::Command};

use anyhow::Result;

pub use self::metadata::leads;
use super::{Launch, Ready, Server, folder, program, run};
use crate::process::free_address;

/// The program that must be there.
pub const PROGRAM: &str = "kafka-java";

/// The class and the argument that tell the version.
pub const VERSION: [&str; 2] = ["kafka.Kafka", "--version"];

/// Any will do; it only has to be the same for all brokers of a cluster.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// Options of a virtual machine that lives for seconds.
const QUICK_START: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// Starts one broker that makes topics when they are first used, with `partitions` partitions.
///
/// # Errors
/// Where it does not start.
pub async fn start(partitions: u32) -> Result<Server> {
    launch(partitions, "PLAINTEXT", "", None).await
}

/// Starts one broker that tells its clients to find it at another address, which leads to it.
///
/// # Errors
/// Where it does not start.
pub async fn start_behind(front: SocketAddr, partitions: u32) -> Result<Server> {
    launch(partitions, "PLAINTEXT", "", Some(front)).await
}

/// Starts one broker that lets `user` in, by SASL/PLAIN, and nobody else.
///
/// # Errors
/// Where it does not start.
pub async fn start_with_login(user: &str, password: &str) -> Result<Server> {
    let login = format!(
        "sasl.enabled.mechanisms=PLAIN\nsasl.mechanism.inter.broker.protocol=PLAIN\n\
         listener.name.sasl_plaintext.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"{user}\" password=\"{password}\" user_{user}=\"{password}\";\n"
    );
    launch(1, "SASL_PLAINTEXT", &login, None).await
}

async fn launch(partitions: u32, protocol: &str, login: &str, front: Option<SocketAddr>) -> Result<Server> {
    let (address, controller, dir) = (free_address(), free_address(), folder()?);
    let told = front.unwrap_or(address);
    let config = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
         listeners={protocol}://{address},CONTROLLER://{controller}\nadvertised.listeners={protocol}://{told}\n\
         inter.broker.listener.name={protocol}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}\n{login}\
         log.dirs={}\nnum.partitions={partitions}\noffsets.topic.num.partitions=4\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\nmessage.max.bytes=4194304\ngroup.initial.rebalance.delay.ms=0\n",
        dir.path().join("data").display()
    );
    let file = dir.path().join("server.properties");
    std::fs::write(&file, config)?;
    let file = file.display().to_string();
    let java = program(PROGRAM)?;
    let mut format = Command::new(&java);
    format.args(QUICK_START).args([
        "-Xmx128m",
        "kafka.tools.StorageTool",
        "format",
        "-t",
        CLUSTER,
        "-c",
        &file,
    ]);
    run(&mut format)?;
    let arguments = QUICK_START.into_iter().chain(["-Xmx384m", "kafka.Kafka", &file]);
    Server::start(address, dir, Launch::new(java, arguments), Ready::Listens).await
}
