//! What is particular to etags; the order in time is tested with the registers.

use super::*;
use crate::history::register::{Call, History};

fn write(history: &History, value: &str, etag: &str, answer: Option<Answer>) {
    let condition = match etag {
        "" => Condition::Absent,
        etag => Condition::Etag(etag.to_owned()),
    };
    let value = value.to_owned();
    let pending = history.begin(0, call(What::Write { value, condition }));
    if let Some(answer) = answer {
        pending.end(answer);
    }
}

fn read(history: &History, value: &str, etag: &str) {
    let found = Answer::Found(value.to_owned(), Some(etag.to_owned()));
    history.begin(1, call(What::Read)).end(found);
}

fn call(what: What) -> Call {
    Call {
        key: "k".to_owned(),
        what,
    }
}

fn violations(history: &History) -> Vec<String> {
    check(&history.operations(), Reads::Latest).violations
}

#[test]
fn a_chain_of_versions_is_fine_and_an_open_write_may_be_part_of_it() {
    let history = History::default();
    write(&history, "a", "", Some(Answer::Written));
    read(&history, "a", "1");
    write(&history, "b", "1", None);
    write(&history, "c", "1", Some(Answer::Conflict));
    read(&history, "b", "2");
    write(&history, "d", "2", Some(Answer::Written));
    let report = check(&history.operations(), Reads::Latest);
    assert_eq!(report.violations, [""; 0]);
    assert_eq!((report.count("versions"), report.count("conflicts")), (3, 1));
}

#[test]
fn two_winners_of_a_version_are_found() {
    let history = History::default();
    write(&history, "a", "", Some(Answer::Written));
    write(&history, "b", "", Some(Answer::Written));
    let wrong = violations(&history);
    assert_eq!(wrong, ["k: a and b both replaced Absent"]);
}

#[test]
fn a_refused_write_that_took_effect_is_found() {
    let history = History::default();
    write(&history, "a", "", Some(Answer::Conflict));
    read(&history, "a", "1");
    let wrong = violations(&history);
    assert!(
        wrong.contains(&"k: a was refused and written".to_owned()),
        "{wrong:?}"
    );
}

#[test]
fn a_refusal_without_a_cause_is_found() {
    let history = History::default();
    write(&history, "a", "", Some(Answer::Written));
    read(&history, "a", "1");
    write(&history, "b", "1", Some(Answer::Conflict));
    read(&history, "a", "1");
    assert_eq!(
        violations(&history),
        ["k: b was refused though nothing had changed"]
    );
}

#[test]
fn an_acknowledged_write_that_is_gone_is_found() {
    let history = History::default();
    write(&history, "a", "", Some(Answer::Written));
    read(&history, "a", "1");
    write(&history, "b", "1", Some(Answer::Written));
    read(&history, "a", "1");
    assert_eq!(violations(&history), ["k: what b replaced was there after b was"]);
    let lagging = check(&history.operations(), Reads::MayLag);
    assert_eq!(lagging.violations, [""; 0]);
}

#[test]
fn an_etag_of_two_values_and_a_value_of_two_etags_are_found() {
    let history = History::default();
    write(&history, "a", "", Some(Answer::Written));
    read(&history, "a", "1");
    read(&history, "a", "2");
    write(&history, "b", "2", Some(Answer::Written));
    read(&history, "b", "2");
    let wrong = violations(&history);
    assert!(
        wrong.contains(&"k: a has the etags 1 and 2".to_owned()),
        "{wrong:?}"
    );
    assert!(
        wrong.contains(&"k: a and b have the etag 2".to_owned()),
        "{wrong:?}"
    );
}

#[test]
fn an_invented_value_is_found() {
    let history = History::default();
    read(&history, "x", "1");
    let found = ["k: x was read and is no version"];
    assert_eq!(violations(&history), found);
    assert_eq!(check(&history.operations(), Reads::MayLag).violations, found);
}
