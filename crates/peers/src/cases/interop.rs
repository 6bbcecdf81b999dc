//! gRPC's interoperability tests: client and server of grpc-go.

use anyhow::{Result, ensure};
use layotto_peers::{
    process::{Process, free_address},
    proxy::{Plan, Protocol, Proxy},
};

use super::{succeed, tool};
use crate::runner::{Case, Lab};

/// Those that need no cloud, no certificates and no other kind of server.
const TESTS: &[&str] = &[
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];

pub fn cases() -> Vec<Case> {
    let case = |test: &'static str| {
        Case::new(
            format!("grpc_go::{test}"),
            &["interop_client", "interop_server"],
            move |lab| run(lab, test),
        )
    };
    TESTS.iter().copied().map(case).collect()
}

async fn run(lab: Lab, test: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let address = free_address();
    let mut server = std::process::Command::new(tool("interop_server")?);
    server.arg(format!("-port={}", address.port()));
    let mut server = Process::start(&mut server, folder.path().join("server"))?;
    server.wait_for(address).await?;
    let proxy = Proxy::start(lab.kind, &Plan::of(Protocol::Http2, address)).await?;
    let port = format!("-server_port={}", proxy.address.port());
    let test = format!("-test_case={test}");
    succeed(
        "interop_client",
        ["-server_host=127.0.0.1", &port, "-use_tls=false", &test],
    )
    .await?;
    ensure!(server.is_alive(), "the server ended: {}", server.output());
    Ok(())
}
