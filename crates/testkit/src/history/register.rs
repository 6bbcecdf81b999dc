//! Keys that are read and written: each read returns the last value written.
//!
//! Every value is written once, so that a read tells which write it saw. Then there is an order
//! of all operations on a key that fits the answers and the time they took if and only if no two
//! values that were certainly current for a while were so at once, and none was written, read and
//! replaced within such a while of another. (Gibbons and Korach, "Testing shared memories", 1997.)

use std::collections::BTreeMap;

use super::{Operation, Report};

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Of which key.
    pub key: String,
    /// What.
    pub what: What,
}

/// The kinds of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// To read.
    Read,
    /// To write.
    Write {
        /// A value that nobody else writes.
        value: String,
        /// What must be there for it.
        condition: Condition,
    },
}

/// What must be there for a write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Anything.
    Any,
    /// Nothing.
    Absent,
    /// The version with this etag.
    Etag(String),
}

/// How it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A read: value and etag.
    Found(String, Option<String>),
    /// A read.
    Absent,
    /// A write.
    Written,
    /// A write whose condition did not hold.
    Conflict,
}

/// The operations of a history.
pub type History = super::History<Call, Answer>;
pub(super) type Record = Operation<Call, Answer>;

pub(super) fn by_key(operations: &[Record]) -> BTreeMap<&str, Vec<&Record>> {
    let mut keys: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.call.key).or_default().push(operation);
    }
    keys
}

/// A value, who wrote it, and who read it.
struct Value<'h> {
    text: &'h str,
    /// When it was written; the beginning of time for what was there before.
    called: u64,
    /// The least end of the operations on it.
    first_end: u64,
    /// The greatest begin of the operations on it.
    last_begin: u64,
    reads: usize,
    is_known: bool,
}

/// Looks for reads that return what was not written, or not yet, or was overwritten before, in
/// keys that are written without a condition.
pub fn check(operations: &[Record]) -> Report {
    let mut report = Report::new("registers", operations);
    let mut counts = (0, 0);
    for (key, records) in by_key(operations) {
        let values = values(key, &records, &mut report);
        counts.0 += values.iter().filter(|value| value.is_known).count();
        counts.1 += values.iter().map(|value| value.reads).sum::<usize>();
        order(key, &values, &mut report);
    }
    report.counts = vec![("written", counts.0), ("read", counts.1)];
    report
}

fn values<'h>(key: &str, records: &[&'h Record], report: &mut Report) -> Vec<Value<'h>> {
    let nothing = Value {
        text: "nothing",
        called: 0,
        first_end: 0,
        last_begin: 0,
        reads: 0,
        is_known: false,
    };
    let mut values = BTreeMap::from([("", nothing)]);
    for record in records {
        if let What::Write { value, .. } = &record.call.what {
            values.insert(
                value.as_str(),
                Value {
                    text: value,
                    called: record.called.number,
                    first_end: record.end(),
                    last_begin: record.called.number,
                    reads: 0,
                    is_known: record.answer() == Some(&Answer::Written),
                },
            );
        }
    }
    for record in records {
        let text = match record.answer() {
            Some(Answer::Found(text, _)) => text.as_str(),
            Some(Answer::Absent) => "",
            _ => continue,
        };
        let Some(value) = values.get_mut(text) else {
            report.violation(format!("{key}: {text} was read and never written"));
            continue;
        };
        if record.end() < value.called {
            report.violation(format!("{key}: {text} was read before it was written"));
        }
        value.reads += 1;
        value.first_end = value.first_end.min(record.end());
        value.last_begin = value.last_begin.max(record.called.number);
    }
    // A write that may have failed and that nobody saw makes no difference to anybody.
    let seen = |value: &Value<'_>| value.is_known || value.reads > 0;
    values.into_values().filter(seen).collect()
}

/// A value was certainly current from its first end to its last begin, where those are apart in
/// that order; else it was so at some moment between the two.
fn order(key: &str, values: &[Value<'_>], report: &mut Report) {
    let lasts = |value: &&Value<'_>| value.first_end < value.last_begin;
    let mut lasting: Vec<_> = values.iter().filter(lasts).collect();
    lasting.sort_by_key(|value| value.first_end);
    for pair in lasting.windows(2) {
        if let [first, second] = pair
            && second.first_end < first.last_begin
        {
            let (first, second) = (first.text, second.text);
            report.violation(format!("{key}: {first} was read after {second} was there"));
        }
    }
    for brief in values.iter().filter(|value| !lasts(value)) {
        let before = lasting.partition_point(|value| value.first_end < brief.last_begin);
        let around = before.checked_sub(1).and_then(|index| lasting.get(index));
        if let Some(around) = around.filter(|around| brief.first_end < around.last_begin) {
            let (around, brief) = (around.text, brief.text);
            report.violation(format!(
                "{key}: {around} was read although {brief} had replaced it"
            ));
        }
    }
}

#[cfg(test)]
mod tests;
