//! Locks: never two holders, and fencing tokens that rise.
//!
//! A client knows that it holds a lock from the answer on until the lease, counted from its call,
//! has ended or it asks for the release. What it does not know is not held against the store.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use layotto_core::lock::{Grant, Status};
use tokio::time::Instant;

use super::{Operation, Report, Stamp};

/// Stores count leases in milliseconds.
const GRAIN: Duration = Duration::from_millis(5);

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Of which lock.
    pub resource: String,
    /// Under which name: one name for one holding of the lock.
    pub owner: String,
    /// What.
    pub what: What,
}

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// To get the lock for so long.
    Try(Duration),
    /// To extend it, or to shorten it.
    KeepAlive(Duration),
    /// To give it back.
    Unlock,
}

/// How it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A try.
    Grant(Grant),
    /// Anything else; a keep-alive may tell the token.
    Status(Status, Option<u64>),
}

/// The operations of a history.
pub type History = super::History<Call, Answer>;
type Record = Operation<Call, Answer>;

/// Looks for two holders of a lock, leases that ended early, strangers that were obeyed and, where
/// the store is `fenced`, tokens that do not rise.
pub fn check(operations: &[Record], fenced: bool) -> Report {
    let mut report = Report::new("locks", operations);
    let mut resources: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for operation in operations {
        resources
            .entry(&operation.call.resource)
            .or_default()
            .push(operation);
    }
    let mut grants = 0;
    for records in resources.values() {
        let mut holdings = holdings(records, &mut report);
        holdings.sort_by_key(|holding| holding.from);
        grants += holdings.len();
        exclude(&holdings, &mut report);
        strangers(records, &holdings, &mut report);
        if fenced {
            rise(&holdings, &mut report);
        }
    }
    report.counts.push(("grants", grants));
    report
}

/// The time in which a client knows that it holds a lock.
struct Holding<'h> {
    owner: &'h str,
    resource: &'h str,
    called: Stamp,
    from: Stamp,
    token: Option<u64>,
    /// The lease's end, as the client must count it.
    until: Instant,
    /// When the client gave it back.
    released: u64,
}

impl Holding<'_> {
    fn covers(&self, moment: Stamp) -> bool {
        self.from <= moment && moment.at < self.until && moment.number < self.released
    }

    fn shown(&self) -> String {
        let token = self
            .token
            .map_or(String::new(), |token| format!(" with token {token}"));
        format!("{}{token}", self.owner)
    }
}

/// What is known of each grant of a lock.
fn holdings<'h>(records: &[&'h Record], report: &mut Report) -> Vec<Holding<'h>> {
    let mut held: Vec<Holding<'h>> = Vec::new();
    let mut by_owner: HashMap<&str, usize> = HashMap::new();
    for record in records {
        let owner = record.call.owner.as_str();
        let holding = by_owner.get(owner).and_then(|index| held.get_mut(*index));
        match (record.call.what, holding, record.answer()) {
            (What::Try(lease), _, Some(Answer::Grant(Grant::Acquired { fencing_token }))) => {
                by_owner.insert(owner, held.len());
                held.push(Holding {
                    owner,
                    resource: &record.call.resource,
                    called: record.called,
                    from: record
                        .answered
                        .as_ref()
                        .map_or(record.called, |(stamp, _)| *stamp),
                    token: *fencing_token,
                    until: record.called.at + lease - GRAIN,
                    released: u64::MAX,
                });
            }
            (What::Try(_), _, _) | (_, None, _) => {}
            (what, Some(holding), _) => follow(holding, what, record, report),
        }
    }
    held
}

/// Takes into account what the holder did next.
fn follow(holding: &mut Holding<'_>, what: What, record: &Record, report: &mut Report) {
    if let Some((answered, Answer::Status(status @ (Status::Unexist | Status::BelongsToOthers), _))) =
        record.answered
        && holding.covers(answered)
    {
        let (shown, resource) = (holding.shown(), holding.resource);
        report.violation(format!(
            "{resource}: {shown} is told {status:?} to {what:?} during its lease"
        ));
    }
    match (what, record.answer()) {
        (What::Unlock, _) => holding.released = holding.released.min(record.called.number),
        (What::KeepAlive(lease), Some(Answer::Status(Status::Success, token))) => {
            holding.until = record.called.at + lease - GRAIN;
            if token.is_some() && *token != holding.token {
                let (shown, resource) = (holding.shown(), holding.resource);
                report.violation(format!(
                    "{resource}: a keep-alive tells {shown} the token {token:?}"
                ));
            }
        }
        // It may have been shortened.
        (What::KeepAlive(lease), None) => {
            holding.until = holding.until.min(record.called.at + lease - GRAIN);
        }
        _ => {}
    }
}

/// No grant lies in the time in which another client knows that it holds the lock.
fn exclude(holdings: &[Holding<'_>], report: &mut Report) {
    let mut live: Vec<&Holding<'_>> = Vec::new();
    for next in holdings {
        live.retain(|holding| holding.covers(next.from));
        for holder in &live {
            // One that was under way before may have been granted and have ended before.
            if next.covers(next.from) || holder.from < next.called {
                let (resource, now) = (next.resource, next.shown());
                report.violation(format!(
                    "{resource}: granted to {now} while {} holds it",
                    holder.shown()
                ));
            }
        }
        live.push(next);
    }
}

/// Nobody gives back or extends what another client holds all the while, or what it never got.
fn strangers(records: &[&Record], holdings: &[Holding<'_>], report: &mut Report) {
    let mut tries: HashMap<&str, u64> = HashMap::new();
    for record in records {
        let may_hold = !matches!(record.answer(), Some(Answer::Grant(Grant::Busy)));
        if matches!(record.call.what, What::Try(_)) && may_hold {
            tries.entry(&record.call.owner).or_insert(record.called.number);
        }
    }
    for record in records {
        let Some((answered, Answer::Status(Status::Success, _))) = record.answered else {
            continue;
        };
        let Call {
            resource,
            owner,
            what,
        } = &record.call;
        let tried = tries.get(owner.as_str());
        if tried.is_none_or(|called| *called > answered.number) {
            report.violation(format!("{resource}: {owner} never got it and may {what:?}"));
        }
        // Two that hold it at once are found elsewhere: only the last other one can hold it now.
        let before = holdings.partition_point(|holding| holding.from < record.called);
        let mut others = holdings.iter().take(before).rev();
        let other = others.find(|holding| holding.owner != owner);
        if let Some(holder) = other.filter(|holding| holding.covers(answered)) {
            let holder = holder.shown();
            report.violation(format!(
                "{resource}: {owner} may {what:?} while {holder} holds it"
            ));
        }
    }
}

/// Tokens are unique, and one granted after another is greater.
fn rise(holdings: &[Holding<'_>], report: &mut Report) {
    let mut by_call: Vec<_> = holdings.iter().collect();
    by_call.sort_by_key(|holding| holding.called);
    let mut ended = holdings.iter().peekable();
    let mut greatest: Option<&Holding<'_>> = None;
    let mut seen: HashMap<u64, &Holding<'_>> = HashMap::new();
    for next in by_call {
        while let Some(before) = ended.next_if(|before| before.from < next.called) {
            if greatest.is_none_or(|greatest| before.token > greatest.token) {
                greatest = Some(before);
            }
        }
        let (resource, now) = (next.resource, next.shown());
        let Some(token) = next.token else {
            report.violation(format!("{resource}: {now} got no fencing token"));
            continue;
        };
        if let Some(before) = greatest.filter(|before| before.token > next.token) {
            report.violation(format!("{resource}: {now} is granted after {}", before.shown()));
        }
        if let Some(before) = seen.insert(token, next) {
            report.violation(format!("{resource}: {now} has the token of {}", before.shown()));
        }
    }
}

#[cfg(test)]
mod tests;
