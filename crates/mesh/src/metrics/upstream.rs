//! What upstream hosts do: the counters that clusters keep, as they are shown.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    histogram::Reading,
    page::{CAP, Figure, Labels, OTHER, Page, Shape},
};

/// Who keeps counters of clusters, their hosts and health checks; asked whenever figures are shown.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Calls `each` for every cluster, with `host: None`, and for every host of it.
    fn upstream(&self, each: &mut dyn FnMut(Row<'_>));

    /// Calls `each` for every health check, with its `service_name`.
    fn health(&self, _each: &mut dyn FnMut(&str, &HealthFigures)) {}
}

/// The figures of one cluster or one host.
#[derive(Debug)]
pub struct Row<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// A host of it; `None`: all of it.
    pub host: Option<&'a str>,
    /// Its figures.
    pub figures: Figures,
    /// How long requests took.
    pub duration: Option<Reading>,
}

macro_rules! figures {
    ($(#[$meta:meta])* $name:ident: $($field:ident $shape:ident $help:literal),+ $(,)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = concat!($help, ".")] pub $field: u64,)+
        }

        impl $name {
            /// The figures of `pairs`; names that are not among the fields are left out.
            pub fn of(pairs: impl IntoIterator<Item = (&'static str, u64)>) -> Self {
                let mut figures = Self::default();
                for (name, value) in pairs {
                    match name {
                        $(stringify!($field) => figures.$field = value,)+
                        _ => {}
                    }
                }
                figures
            }

            fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)+
            }

            const fn table() -> &'static [Figure<Self>] {
                &[$(Figure {
                    key: stringify!($field),
                    shape: Shape::$shape,
                    help: $help,
                    read: |figures| figures.$field,
                },)+]
            }
        }
    };
}

figures! {
    /// The figures of a cluster or host, under upstream's names.
    Figures:
    connection_total Counter "Connections made",
    connection_close Growing "Connections closed",
    connection_active Gauge "Connections that are open",
    connection_con_fail Growing "Connections that could not be made",
    connection_retry Growing "Connections tried again",
    connection_local_close Growing "Connections closed by this side",
    connection_remote_close Growing "Connections closed by the host",
    connection_local_close_with_active_request Growing "Connections closed by this side with requests under way",
    connection_remote_close_with_active_request Growing "Connections closed by the host with requests under way",
    request_total Counter "Requests sent",
    request_active Gauge "Requests under way",
    request_local_reset Growing "Requests cut by this side",
    request_remote_reset Growing "Requests cut by the host",
    request_timeout Growing "Requests that took too long",
    request_failure_eject Growing "Requests that failed since no connection was made",
    request_pending_overflow Growing "Requests refused by a circuit breaker",
    request_retry Growing "Requests tried again",
    request_retry_overflow Growing "Retries refused by a circuit breaker",
    request_duration_time_total Growing "Nanoseconds of all requests",
    request_duration_time_ewma Gauge "Nanoseconds of a request, as a moving average",
    response_success Growing "Replies that were good",
    response_failed Growing "Replies with a status of 5xx, or none",
    lb_subsets_fallback Growing "Choices that fell back from a subset",
    lb_subsets_created Growing "Subsets made",
}

figures! {
    /// The figures of a health check, under upstream's names.
    HealthFigures:
    attempt Growing "Checks made",
    success Growing "Checks passed",
    failure Growing "Checks failed",
    active_failure Growing "Checks failed by the host's answer",
    passive_failure Growing "Failures seen in traffic",
    network_failure Growing "Checks failed for want of a connection or in time",
    verify_cluster Growing "Checks of the cluster's name",
    healthy Gauge "Hosts that are well",
}

#[derive(Debug, Default)]
struct Numbers {
    figures: Figures,
    duration: Option<Reading>,
}

/// Upstream's spelling of `healthy`.
const HEALTY: Figure<HealthFigures> = Figure {
    key: "healty",
    shape: Shape::Gauge,
    help: "Hosts that are well, under upstream's name",
    read: |figures| figures.healthy,
};

pub(super) fn write(page: &mut Page<'_, '_>, sources: &[Arc<dyn Source>]) -> Result<(), fmt::Error> {
    let rows = rows(sources);
    for figure in Figures::table() {
        page.figure("upstream", figure, &rows, |numbers| &numbers.figures)?;
    }
    page.histogram(
        "upstream",
        "request_duration_time",
        "Nanoseconds from sending a request to its reply",
        &rows,
        |numbers| numbers.duration.as_ref(),
    )?;
    let health = health(sources);
    for figure in HealthFigures::table() {
        page.figure("healthcheck", figure, &health, |figures| figures)?;
    }
    page.figure("healthcheck", &HEALTY, &health, |figures| figures)
}

/// The rows of all sources, those of one name added up and those beyond the cap made one.
fn rows(sources: &[Arc<dyn Source>]) -> Vec<(Labels, Numbers)> {
    let mut rows = Capped::<(String, Option<String>), Numbers>::default();
    for source in sources {
        source.upstream(&mut |row| {
            let other = (OTHER.to_owned(), row.host.map(|_| OTHER.to_owned()));
            let name = (row.cluster.to_owned(), row.host.map(str::to_owned));
            rows.entry(name, other).add(&row);
        });
    }
    let labels = |(cluster, host): (String, Option<String>)| {
        let host = host.map(|host| ("host", host));
        [("cluster", cluster)].into_iter().chain(host).collect()
    };
    rows.0
        .into_iter()
        .map(|(name, numbers)| (labels(name), numbers))
        .collect()
}

fn health(sources: &[Arc<dyn Source>]) -> Vec<(Labels, HealthFigures)> {
    let mut rows = Capped::<String, HealthFigures>::default();
    for source in sources {
        source.health(&mut |service, figures| {
            rows.entry(service.to_owned(), OTHER.to_owned()).add(figures);
        });
    }
    rows.0
        .into_iter()
        .map(|(service, figures)| (vec![("service", service)], figures))
        .collect()
}

/// Rows by name, of which there are at most so many.
struct Capped<K, V>(BTreeMap<K, V>);

impl<K, V> Default for Capped<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V: Default> Capped<K, V> {
    fn entry(&mut self, name: K, other: K) -> &mut V {
        let known = self.0.len() < CAP || self.0.contains_key(&name);
        self.0.entry(if known { name } else { other }).or_default()
    }
}

impl Numbers {
    fn add(&mut self, row: &Row<'_>) {
        self.figures.add(&row.figures);
        if let Some(duration) = &row.duration {
            self.duration.get_or_insert_default().add(duration);
        }
    }
}
