//! `STRICT_DNS`: every address of a name is a host. Names are looked up again and again; while a
//! name cannot be looked up, its last answer counts on.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::future::join_all;
use tokio::sync::watch;

use crate::{
    Address, ConfigError,
    cluster::{Cluster, config::ClusterConfig, host::Place, resolve::Lookup},
};

/// The names of one cluster.
#[derive(Debug)]
pub(in crate::cluster) struct Dns {
    names: Vec<Place>,
    refresh: Duration,
    family: Family,
    lookup: Lookup,
    answers: Mutex<Answers>,
    asked: watch::Sender<bool>,
}

/// What was answered, by addresses of the configuration.
#[derive(Debug, Default)]
struct Answers {
    /// The last good answer.
    found: HashMap<Arc<str>, BTreeSet<SocketAddr>>,
    /// Those that had none when they were looked up last.
    failing: HashSet<Arc<str>>,
}

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
    Any,
}

impl Dns {
    pub(in crate::cluster) fn new(
        config: &ClusterConfig,
        names: Vec<Place>,
        lookup: Lookup,
    ) -> Result<Self, ConfigError> {
        let family = match config.dns_lookup_family.as_str() {
            "" | "V4_ONLY" => Family::V4,
            "V6_ONLY" => Family::V6,
            "AUTO" => Family::Any,
            other => {
                let text = format!("{other:?} is none of \"V4_ONLY\", \"V6_ONLY\" and \"AUTO\"");
                return Err(ConfigError::new("dns_lookup_family", text));
            }
        };
        let refresh = match config.dns_refresh_rate.0 {
            Duration::ZERO => Duration::from_secs(5),
            refresh => refresh,
        };
        Ok(Self {
            names,
            refresh,
            family,
            lookup,
            answers: Mutex::default(),
            asked: watch::Sender::new(false),
        })
    }

    /// Begins with the answers that the cluster had in its last configuration.
    pub(in crate::cluster) fn succeed(&self, before: &Self) {
        let known = before.answers().found.clone();
        self.answers().found.extend(known);
    }

    /// The hosts by what is known now.
    pub(in crate::cluster) fn places(&self) -> Vec<Place> {
        let answers = self.answers();
        let hosts = |place: &Place| match answers.found.get(&place.name) {
            _ if place.address.path().is_some() => vec![place.clone()],
            Some(addresses) => addresses.iter().map(|address| at(place, *address)).collect(),
            None => Vec::new(),
        };
        self.names.iter().flat_map(hosts).collect()
    }

    /// Resolves when every name was looked up once, with or without success.
    pub(in crate::cluster) async fn asked(&self) {
        let mut asked = self.asked.subscribe();
        let ended = asked.wait_for(|asked| *asked).await;
        ended.expect("invariant: the sender lives as long as this borrow");
    }

    /// Looks names up until `cluster` is gone.
    pub(in crate::cluster) async fn run(self: Arc<Self>, cluster: Weak<Cluster>) {
        loop {
            let answers = self.ask().await;
            let Some(cluster) = cluster.upgrade() else {
                return;
            };
            for (place, answer) in answers {
                self.note(&cluster.name, place, answer);
            }
            cluster.replace(self.places());
            drop(cluster);
            self.asked.send_replace(true);
            tokio::time::sleep(self.refresh).await;
        }
    }

    /// Looks all names up at the same time, so that slow ones do not add up.
    async fn ask(&self) -> Vec<(&Place, io::Result<BTreeSet<SocketAddr>>)> {
        let ask = |place| async move { Some((place, self.look_up(place).await?)) };
        let answers = join_all(self.names.iter().map(ask)).await;
        answers.into_iter().flatten().collect()
    }

    /// `None`: it is no name.
    async fn look_up(&self, place: &Place) -> Option<io::Result<BTreeSet<SocketAddr>>> {
        let Address::Tcp { host, port } = &place.address else {
            return None;
        };
        let wanted = |address: &SocketAddr| host.parse::<IpAddr>().is_ok() || self.family.has(address);
        let found = self.lookup.addresses(host, *port).await;
        Some(
            match found.map(|found| found.into_iter().filter(wanted).collect::<BTreeSet<_>>()) {
                Ok(found) if found.is_empty() => {
                    Err(io::Error::other("it has no address of the family wanted"))
                }
                found => found,
            },
        )
    }

    /// Keeps a good answer, and logs when a name begins or ceases to have none.
    fn note(&self, cluster: &str, place: &Place, answer: io::Result<BTreeSet<SocketAddr>>) {
        let mut answers = self.answers();
        match answer {
            Ok(found) => {
                answers.found.insert(place.name.clone(), found);
                if answers.failing.remove(&place.name) {
                    tracing::info!(cluster, name = %place.name, "name is looked up again");
                }
            }
            Err(error) => {
                if answers.failing.insert(place.name.clone()) {
                    tracing::warn!(cluster, name = %place.name, %error, "name is not looked up; its last answer counts on");
                }
            }
        }
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Family {
    fn has(self, address: &SocketAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Any => true,
        }
    }
}

/// The host of `place` at one of its addresses.
fn at(place: &Place, address: SocketAddr) -> Place {
    let name = match &place.address {
        Address::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => Some(Arc::from(host.as_str())),
        _ => None,
    };
    Place {
        name: address.to_string().into(),
        address: address.into(),
        hostname: place.hostname.clone().or(name),
        ..place.clone()
    }
}
