//! A sidecar, a product, and a proxy with faults between them.

use std::time::{Duration, Instant};

use layotto_testkit::{
    fault_proxy::{Door, FaultProxy, Faults},
    process::free_address,
    server::Server,
};

use super::{process::Process, product::Product};
use crate::sidecar::{PATIENCE, say};

/// For how long a process must hold the same.
const SETTLED: Duration = Duration::from_millis(300);

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// But for connections to the product.
    files: u64,
    threads: u64,
    /// Connections to the product.
    connections: u64,
}

pub struct Rig {
    pub product: &'static Product,
    pub server: Server,
    pub proxy: FaultProxy,
    pub process: Process,
}

impl Rig {
    /// Starts all three; where the door is shut, the product is away for the sidecar.
    pub async fn start(product: &'static Product, door: Door) -> Self {
        // The address must be known before the server is.
        let proxy = FaultProxy::start(free_address()).await.unwrap();
        let server = (product.start)(proxy.address()).await.unwrap();
        proxy.redirect(server.address());
        proxy.set(Faults::door(door)).await;
        let process = Process::start((product.sections)(proxy.address())).await;
        Self {
            product,
            server,
            proxy,
            process,
        }
    }

    /// Kills the product; nothing listens at its address.
    pub async fn kill(&mut self) {
        self.server.kill();
        self.proxy.set(Faults::door(Door::Shut)).await;
    }

    /// Starts the product again; done when it takes work.
    pub async fn resume(&mut self) {
        self.server.resume().await.unwrap();
        self.heal().await;
    }

    /// Takes all faults of the network away; done when the product takes work.
    pub async fn heal(&self) {
        self.product_answers().await;
        self.proxy.heal().await;
    }

    /// Waits until the product answers past the sidecar.
    pub async fn product_answers(&self) {
        let begun = Instant::now();
        while !(self.product.answers)(&self.server) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{} does not answer",
                self.product.name
            );
            tokio::task::yield_now().await;
        }
    }

    /// What the process holds now.
    pub fn size(&self) -> Size {
        let connections = self.process.connections(self.proxy.address());
        Size {
            files: self.process.count("fd").saturating_sub(connections),
            threads: self.process.count("task"),
            connections,
        }
    }

    /// What the process holds once that changes no more.
    pub async fn settled(&self) -> Size {
        let begun = Instant::now();
        loop {
            let size = self.size();
            tokio::time::sleep(SETTLED).await;
            if self.size() == size {
                return size;
            }
            assert!(begun.elapsed() < PATIENCE, "{size:?} is not all");
        }
    }

    /// Waits until the process holds no more than `before`, and no more connections than it may.
    pub async fn shrinks_to(&self, before: Size) {
        let is_more = |now: Size| {
            now.files > before.files || now.threads > before.threads || now.connections > self.product.pool
        };
        let begun = Instant::now();
        while is_more(self.size()) {
            let now = self.size();
            let threads = self.process.threads();
            assert!(
                begun.elapsed() < PATIENCE,
                "{before:?} before, {now:?} now: {threads:?}; {:?}",
                self.proxy.counts()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let now = self.size();
        say(format_args!(
            "  {}: {before:?} before, {now:?} after",
            self.product.name
        ));
    }
}
