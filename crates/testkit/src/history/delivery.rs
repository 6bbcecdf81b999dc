//! Messages: each one that was acknowledged is handled at least once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Operation, Report};

/// What publishers did: the message, which nobody else publishes.
pub type History = super::History<String, ()>;

/// What subscribers were given and how they answered.
#[derive(Debug, Clone, Default)]
pub struct Inbox(Arc<Mutex<Received>>);

#[derive(Debug, Default)]
struct Received {
    deliveries: Vec<Delivery>,
    seen: HashSet<String>,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub text: String,
    /// Whether the subscriber was done with it.
    pub done: bool,
}

impl Inbox {
    /// Notes a delivery.
    pub fn note(&self, text: String, done: bool) {
        self.hold().deliveries.push(Delivery { text, done });
    }

    /// Whether this is seen for the first time.
    pub fn is_new(&self, text: &str) -> bool {
        self.hold().seen.insert(text.to_owned())
    }

    /// The deliveries so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.hold().deliveries.clone()
    }

    fn hold(&self) -> MutexGuard<'_, Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages that were acknowledged and that no subscriber was done with.
pub fn missing<'h>(published: &'h [Operation<String, ()>], deliveries: &[Delivery]) -> Vec<&'h str> {
    let done = deliveries.iter().filter(|delivery| delivery.done);
    let done: HashSet<_> = done.map(|delivery| delivery.text.as_str()).collect();
    let acknowledged = published.iter().filter(|operation| operation.answered.is_some());
    let texts = acknowledged.map(|operation| operation.call.as_str());
    texts.filter(|text| !done.contains(text)).collect()
}

/// Looks for messages that were lost or never published; counts those that came again.
pub fn check(published: &[Operation<String, ()>], deliveries: &[Delivery]) -> Report {
    let mut report = Report::new("messages", published);
    for text in missing(published, deliveries) {
        report.violation(format!("{text} was acknowledged and is lost"));
    }
    let known: HashSet<_> = published
        .iter()
        .map(|operation| operation.call.as_str())
        .collect();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for delivery in deliveries {
        if !known.contains(delivery.text.as_str()) {
            report.violation(format!("{} was delivered and never published", delivery.text));
        }
        if delivery.done {
            *times.entry(&delivery.text).or_default() += 1;
        }
    }
    let again = times.values().map(|times| times - 1).sum();
    report.counts = vec![("deliveries", deliveries.len()), ("duplicates", again)];
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Vec<Operation<String, ()>> {
        let history = History::default();
        history.begin(1, "a".to_owned()).end(());
        drop(history.begin(2, "b".to_owned()));
        history.begin(2, "c".to_owned()).end(());
        history.operations()
    }

    fn deliveries(all: &[(&str, bool)]) -> Vec<Delivery> {
        let inbox = Inbox::default();
        for (text, done) in all {
            inbox.note((*text).to_owned(), *done);
        }
        inbox.deliveries()
    }

    #[test]
    fn at_least_once_is_enough_and_the_unknown_may_come_or_not() {
        let all = [("c", true), ("a", false), ("a", true), ("c", true), ("c", true)];
        let report = check(&published(), &deliveries(&all));
        assert_eq!(report.violations, [""; 0]);
        assert_eq!((report.count("deliveries"), report.count("duplicates")), (5, 2));
        let with_b = [("a", true), ("b", true), ("c", true)];
        assert_eq!(check(&published(), &deliveries(&with_b)).violations, [""; 0]);
    }

    #[test]
    fn a_lost_message_is_found() {
        let report = check(&published(), &deliveries(&[("a", true)]));
        assert_eq!(report.violations, ["c was acknowledged and is lost"]);
    }

    #[test]
    fn a_message_that_failed_and_never_came_again_is_lost() {
        let report = check(&published(), &deliveries(&[("a", false), ("c", true)]));
        assert_eq!(report.violations, ["a was acknowledged and is lost"]);
    }

    #[test]
    fn an_invented_message_is_found() {
        let all = [("a", true), ("c", true), ("d", true)];
        let report = check(&published(), &deliveries(&all));
        assert_eq!(report.violations, ["d was delivered and never published"]);
    }
}
