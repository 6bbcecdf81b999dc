//! Sequences: no id twice, and strong ones that rise as time goes on.

use std::collections::{BTreeMap, HashMap};

use super::{Operation, Report};

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Of which sequence.
    pub key: String,
    /// Greater than all that anybody got before; else unique only.
    pub strong: bool,
}

/// The operations of a history; an answer holds one id, or those of a segment.
pub type History = super::History<Call, Vec<i64>>;

/// Looks for ids that were handed out twice, and for strong ones that are not greater than every
/// id that was handed out before they were asked for.
pub fn check(operations: &[Operation<Call, Vec<i64>>]) -> Report {
    let mut report = Report::new("sequences", operations);
    let mut keys: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for operation in operations {
        if operation.answered.is_some() {
            keys.entry(&operation.call.key).or_default().push(operation);
        }
    }
    let mut ids = 0;
    for (key, operations) in keys {
        let mut owners = HashMap::new();
        for operation in &operations {
            for id in operation.answer().into_iter().flatten() {
                ids += 1;
                if let Some(first) = owners.insert(id, operation.client) {
                    let second = operation.client;
                    report.violation(format!("{key}: id {id} went to clients {first} and {second}"));
                }
            }
        }
        rise(key, &operations, &mut report);
    }
    report.counts.push(("ids", ids));
    report
}

fn rise(key: &str, operations: &[&Operation<Call, Vec<i64>>], report: &mut Report) {
    let mut by_end = operations.to_vec();
    by_end.sort_by_key(|operation| operation.end());
    let mut ended = by_end.into_iter().peekable();
    let mut greatest = i64::MIN;
    for operation in operations {
        while let Some(before) = ended.next_if(|before| before.end() < operation.called.number) {
            greatest = greatest.max(
                before
                    .answer()
                    .into_iter()
                    .flatten()
                    .copied()
                    .max()
                    .unwrap_or(greatest),
            );
        }
        let least = operation.answer().and_then(|ids| ids.iter().min());
        if let Some(least) = least.filter(|least| operation.call.strong && **least <= greatest) {
            report.violation(format!(
                "{key}: strong id {least} was asked for after {greatest} was known"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(strong: bool) -> Call {
        Call {
            key: "k".to_owned(),
            strong,
        }
    }

    #[test]
    fn ids_that_overlap_in_time_may_come_in_any_order() {
        let history = History::default();
        let (a, b) = (history.begin(1, call(true)), history.begin(2, call(true)));
        a.end(vec![2]);
        b.end(vec![1]);
        history.begin(1, call(false)).end(vec![9, 10]);
        history.begin(1, call(false)).end(vec![5, 6]);
        history.begin(1, call(true)).end(vec![11]);
        drop(history.begin(1, call(true)));
        let report = check(&history.operations());
        assert_eq!(report.violations, [""; 0]);
        assert_eq!((report.operations, report.open, report.count("ids")), (6, 1, 7));
    }

    #[test]
    fn an_id_twice_is_found() {
        let history = History::default();
        history.begin(1, call(false)).end(vec![1, 2]);
        history.begin(2, call(false)).end(vec![2]);
        let report = check(&history.operations());
        assert_eq!(report.violations, ["k: id 2 went to clients 1 and 2"]);
    }

    #[test]
    fn a_strong_id_that_falls_is_found() {
        let history = History::default();
        history.begin(1, call(false)).end(vec![7]);
        history.begin(2, call(true)).end(vec![6]);
        let report = check(&history.operations());
        assert_eq!(
            report.violations,
            ["k: strong id 6 was asked for after 7 was known"]
        );
    }
}
