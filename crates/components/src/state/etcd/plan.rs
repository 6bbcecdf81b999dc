//! Writes as operations of etcd.

use bytes::Bytes;
use layotto_core::Result;

use crate::{
    client::etcd::wire::{Compare, DeleteRangeRequest, Operand, RangeRequest, RequestOp, TxnRequest},
    state::change::{Action, Change, Required},
};

/// Operations of one write: what is there is read first, for its lease.
pub(super) const OPERATIONS: usize = 2;

/// One write, not made yet.
#[derive(Debug)]
pub(super) struct Plan {
    key: Bytes,
    pub(super) condition: Option<Compare>,
    /// `None` removes the key.
    value: Option<Bytes>,
    pub(super) lease: i64,
}

impl Plan {
    /// Fails where the etag is none that etcd could have issued.
    pub(super) fn new(key: Bytes, change: &Change) -> Result<Self> {
        let condition = match change.required()? {
            Required::Nothing => None,
            Required::Absent => Some(Compare::absent(key.clone())),
            Required::Etag(etag) => {
                let revision = i64::try_from(etag).unwrap_or(i64::MAX);
                Some(Compare::equal(key.clone(), Operand::ModRevision(revision)))
            }
        };
        let value = match change.action() {
            Action::Put { value, .. } => Some(value.clone()),
            Action::Remove => None,
        };
        Ok(Self {
            key,
            condition,
            value,
            lease: 0,
        })
    }

    fn operations(self) -> [RequestOp; OPERATIONS] {
        let look = RangeRequest {
            keys_only: true,
            ..RangeRequest::one(self.key.clone())
        };
        let write = match self.value {
            Some(value) => RequestOp::put(self.key, value, self.lease),
            None => DeleteRangeRequest::one(self.key).into(),
        };
        [look.into(), write]
    }

    /// A transaction that makes this write where its condition holds.
    pub(super) fn alone(mut self) -> TxnRequest {
        TxnRequest {
            compare: self.condition.take().into_iter().collect(),
            success: self.operations().into(),
            failure: Vec::new(),
        }
    }
}

/// A transaction that makes all writes where the conditions of all hold, in transactions within it
/// of at most `inner` writes.
pub(super) fn together(mut plans: Vec<Plan>, inner: usize) -> TxnRequest {
    let compare = plans
        .iter_mut()
        .filter_map(|plan| plan.condition.take())
        .collect();
    let mut success = Vec::new();
    let mut plans = plans.into_iter().peekable();
    while plans.peek().is_some() {
        let part = plans.by_ref().take(inner);
        let part = TxnRequest {
            success: part.flat_map(Plan::operations).collect(),
            ..TxnRequest::default()
        };
        success.push(part.into());
    }
    TxnRequest {
        compare,
        success,
        failure: Vec::new(),
    }
}
