//! Fifty clients of one sidecar, shared out over its building blocks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use layotto_testkit::{
    history::{Report, delivery, etag, lock, register, sequence},
    load::{self, Load},
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{product::Promises, remote::Remote};

const CLIENTS: usize = 50;
/// How long acknowledged messages may be on their way after the last fault.
const DELIVERY: Duration = Duration::from_secs(60);

/// What the clients did and saw.
#[derive(Default)]
struct Histories {
    locks: lock::History,
    ids: sequence::History,
    etags: register::History,
    registers: register::History,
    messages: delivery::History,
    inbox: delivery::Inbox,
}

/// Clients under way.
pub struct Crowd {
    stop: CancellationToken,
    histories: Arc<Histories>,
    clients: Vec<JoinHandle<()>>,
}

/// The building blocks that a configuration has.
pub fn blocks(sections: &Value) -> BTreeSet<&str> {
    let known = ["lock", "sequencer", "state", "pub_subs"];
    known
        .into_iter()
        .filter(|name| sections.get(name).is_some())
        .collect()
}

impl Crowd {
    /// Starts the clients; `name` is in the names of all that they use.
    pub fn start(remote: &Arc<Remote>, sections: &Value, name: &str, seed: u64) -> Self {
        let blocks = blocks(sections);
        let shares = blocks.len() + usize::from(blocks.contains("state"));
        let (stop, histories) = (CancellationToken::new(), Arc::new(Histories::default()));
        let load = |part: &str| {
            let mut load = Load::new(format!("{name}-{part}"), seed);
            load.clients = CLIENTS.div_ceil(shares);
            load.stop = stop.clone();
            load
        };
        let mut clients = Vec::new();
        for block in &blocks {
            let (remote, seen) = (remote.clone(), histories.clone());
            clients.push(match *block {
                "lock" => {
                    let load = load("lock");
                    tokio::spawn(async move { load::locks(remote, &load, &seen.locks).await })
                }
                "sequencer" => {
                    let load = load("id");
                    tokio::spawn(async move { load::sequences(remote, &load, &seen.ids).await })
                }
                "state" => {
                    let (etags, registers) = (load("etag"), load("value"));
                    tokio::spawn(async move {
                        tokio::join!(
                            load::by_etag(remote.clone(), &etags, &seen.etags),
                            load::without_condition(remote.clone(), &registers, &seen.registers),
                        );
                        load::settle(remote.clone(), &etags, &seen.etags).await;
                        load::settle(remote, &registers, &seen.registers).await;
                    })
                }
                _ => {
                    let load = load("topic");
                    tokio::spawn(async move {
                        let kept = (&seen.messages, &seen.inbox);
                        let done = load::messages(remote, &load, kept, DELIVERY).await;
                        done.unwrap();
                    })
                }
            });
        }
        Self {
            stop,
            histories,
            clients,
        }
    }

    /// Ends the clients and judges what they saw.
    pub async fn end(self, sections: &Value, promises: &Promises) -> Vec<Report> {
        self.stop.cancel();
        for client in self.clients {
            client.await.unwrap();
        }
        let seen = &self.histories;
        let mut reports = Vec::new();
        for block in blocks(sections) {
            match block {
                "lock" => reports.push(lock::check(&seen.locks.operations(), promises.fenced)),
                "sequencer" => reports.push(sequence::check(&seen.ids.operations())),
                "state" => {
                    reports.push(etag::check(&seen.etags.operations(), promises.reads));
                    if promises.reads == etag::Reads::Latest {
                        reports.push(register::check(&seen.registers.operations()));
                    }
                }
                _ => {
                    let deliveries = seen.inbox.deliveries();
                    reports.push(delivery::check(&seen.messages.operations(), &deliveries));
                }
            }
        }
        reports
    }
}
