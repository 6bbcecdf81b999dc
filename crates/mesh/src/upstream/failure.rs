//! Why a request got no reply from its host.

use crate::{BoxError, cluster::Overflow};

/// Why a request got no reply from its host.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct Failure {
    /// What went wrong.
    pub fault: Fault,
    /// Whether the host certainly did nothing for the request, so that it may be sent again
    /// whatever it asks for.
    pub untouched: bool,
    /// What is known beyond that.
    #[source]
    pub source: Option<BoxError>,
}

/// What went wrong with a request to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection could be made.
    #[error("the connection to the upstream failed")]
    Connect,
    /// A limit of the cluster is reached.
    #[error("{0}")]
    Overflow(Overflow),
    /// The host gave the request up, or answered what is no reply.
    #[error("the upstream gave the request up")]
    Reset,
    /// The connection was lost before the reply.
    #[error("the connection to the upstream was lost")]
    Terminated,
    /// The body of the request could not be read from the client.
    #[error("the request's body could not be read")]
    Request,
    /// The request cannot be sent as it is.
    #[error("the request cannot be sent to the upstream")]
    Unsendable,
}

impl Failure {
    pub(crate) fn new(fault: Fault, source: impl Into<BoxError>) -> Self {
        Self {
            untouched: matches!(fault, Fault::Connect | Fault::Overflow(_)),
            fault,
            source: Some(source.into()),
        }
    }

    /// What went wrong and why, in one line.
    pub(crate) fn told(&self) -> String {
        match &self.source {
            Some(source) => format!("{}: {}", self.fault, chain(&**source)),
            None => self.fault.to_string(),
        }
    }

    pub(super) fn untouched(mut self) -> Self {
        self.untouched = true;
        self
    }
}

impl From<Overflow> for Failure {
    fn from(overflow: Overflow) -> Self {
        Self {
            fault: Fault::Overflow(overflow),
            untouched: true,
            source: None,
        }
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}
