//! A listener as it is now, and what becomes of it.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use layotto_mesh::{
    Listener, drain,
    filter::Filter,
    front::Slot,
    listener::{SettingsSlot, Spare},
    metrics::Metrics,
    proxy::tcp::TcpProxy,
    tap::{ReadTap, tcpcopy::Tcpcopy},
    tls,
};

use super::{
    build::{Opened, Planned, Serves},
    directory::{Bound, Entry},
};
use crate::config::{self, StreamFilter, Terminal};

/// A listener as it is now.
pub struct Open {
    pub config: config::Listener,
    pub filters: Vec<(StreamFilter, Arc<dyn Filter>)>,
    pub tcpcopy: Option<Arc<Tcpcopy>>,
    pub drain: drain::Signal,
    pub watch: drain::Watch,
    place: Place,
    tls: tls::server::Slot,
    socket: Option<(Bound, SettingsSlot)>,
    /// For whoever comes next at its address.
    spare: Option<Spare>,
}

impl Open {
    /// Serves a listener that there was not before.
    pub fn new(
        (planned, opened): (Planned, Opened),
        drain: drain::Signal,
        socket: Option<Listener>,
        metrics: &Metrics,
    ) -> Self {
        let Planned {
            config,
            tls: acceptor,
            filters,
            watch,
            ..
        } = planned;
        let Opened { serves, tcpcopy } = opened;
        let tls = tls::server::Slot::new(acceptor);
        let settings = settings(&config, tcpcopy.as_ref(), &tls);
        let served = match serves {
            Serves::Front(front) => Place::Requests(Slot::new(*front)),
            Serves::Tcp(proxy) => Place::Connections(Arc::new(ArcSwap::new(proxy))),
        };
        // Without one the next comes once this has ended.
        let spare = socket.as_ref().and_then(|socket| socket.spare().ok());
        let socket = socket.map(|socket| {
            let bound = Bound {
                address: socket.local_addr().to_string(),
                connections: socket.connections(),
            };
            let place = socket.settings();
            place.swap(settings);
            metrics.listener(&config.name).watch(socket.connections());
            served.clone().serve(socket, watch.clone());
            (bound, place)
        });
        Self {
            config,
            filters,
            tcpcopy,
            drain,
            watch,
            place: served,
            tls,
            socket,
            spare,
        }
    }

    /// Whether the listener stays where it is and serves what it serves: its socket can stay.
    pub fn is_at(&self, listener: &config::Listener) -> bool {
        let raw = |terminal: &Terminal| matches!(terminal, Terminal::TcpProxy(_));
        self.config.address == listener.address
            && self.socket.is_some() == listener.opens()
            && raw(&self.config.terminal) == raw(&listener.terminal)
    }

    /// The same listener with another configuration, at the place where it is.
    pub fn become_(mut self, planned: Planned, opened: Opened) -> Self {
        match (&self.place, opened.serves) {
            (Place::Requests(slot), Serves::Front(front)) => slot.swap(*front),
            (Place::Connections(slot), Serves::Tcp(proxy)) => slot.store(proxy),
            // One that serves something else is not at the same place.
            (Place::Requests(_), Serves::Tcp(_)) | (Place::Connections(_), Serves::Front(_)) => {}
        }
        self.tls.set(planned.tls);
        if let Some((_, place)) = &self.socket {
            place.swap(settings(&planned.config, opened.tcpcopy.as_ref(), &self.tls));
        }
        self.config = planned.config;
        self.filters = planned.filters;
        self.tcpcopy = opened.tcpcopy;
        self
    }

    /// Lets connections finish what they began, and cuts them after `limit`; whether none was cut.
    pub async fn end(mut self, limit: Duration) -> bool {
        self.spare = None;
        self.drain.drain_within(limit).await
    }

    /// A socket for `listener`, which takes the place of this one; `None`: it is elsewhere.
    pub fn hand_over(&self, listener: &config::Listener) -> Option<std::io::Result<Listener>> {
        let spare = self.spare.as_ref()?;
        (self.config.address == listener.address).then(|| spare.listener(&mesh_settings(listener)))
    }

    /// How others find it.
    pub fn entry(&self) -> Entry {
        Entry {
            slot: match &self.place {
                Place::Requests(slot) => Some(slot.clone()),
                Place::Connections(_) => None,
            },
            socket: self.socket.as_ref().map(|(bound, _)| bound.clone()),
        }
    }
}

/// What a socket serves: the place of what can be changed under it.
#[derive(Clone)]
enum Place {
    Requests(Slot),
    Connections(Arc<ArcSwap<TcpProxy>>),
}

impl Place {
    fn serve(self, socket: Listener, watch: drain::Watch) {
        match self {
            Self::Requests(slot) => tokio::spawn(slot.serve(socket, watch)),
            Self::Connections(proxy) => tokio::spawn(socket.serve_raw(proxy, watch)),
        };
    }
}

fn settings(
    listener: &config::Listener,
    tcpcopy: Option<&Arc<Tcpcopy>>,
    tls: &tls::server::Slot,
) -> layotto_mesh::listener::Config {
    let mut settings = mesh_settings(listener);
    let taps = tcpcopy.cloned().into_iter();
    settings.taps = taps.map(|tap| tap as Arc<dyn ReadTap>).collect();
    settings.tls = tls.clone();
    settings
}

/// The settings of a listener's connections, as far as the configuration alone tells them.
pub fn mesh_settings(listener: &config::Listener) -> layotto_mesh::listener::Config {
    let mut settings = layotto_mesh::listener::Config::new(&listener.name, listener.address.clone());
    settings.protocol = listener.protocol();
    settings.idle_timeout = listener.idle_timeout;
    if let Terminal::Proxy(proxy) = &listener.terminal {
        let http1 = &proxy.extend_config.http1;
        settings.http1_max_header_bytes = Some(http1.max_header_size);
        settings.idle_timeout = settings.idle_timeout.or(Some(PROXY_IDLE));
    }
    settings
}

/// How long a connection to a proxy may be unused, as upstream.
const PROXY_IDLE: Duration = Duration::from_secs(90);
