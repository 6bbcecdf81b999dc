//! Small histories: the checkers agree with a search through all orders.

use tokio::time::Instant;

use super::*;
use crate::history::{
    Stamp,
    etag::{self, Reads},
};

fn operation(what: What, called: u64, answered: Option<(u64, Answer)>) -> Record {
    let stamp = |number| Stamp {
        number,
        at: Instant::now(),
    };
    Operation {
        client: 0,
        call: Call {
            key: "k".to_owned(),
            what,
        },
        called: stamp(called),
        answered: answered.map(|(number, answer)| (stamp(number), answer)),
    }
}

fn etag(value: &str) -> String {
    format!("etag of {value}")
}

/// The state after `record` where it can have been answered so in the state `now`.
fn step(record: &Record, now: &str) -> Option<String> {
    let holds = |condition: &Condition| match condition {
        Condition::Any => true,
        Condition::Absent => now.is_empty(),
        Condition::Etag(wanted) => !now.is_empty() && *wanted == etag(now),
    };
    match (&record.call.what, record.answer()) {
        (What::Read, Some(Answer::Found(value, _))) => (value == now).then(|| now.to_owned()),
        (What::Read, Some(Answer::Absent)) => now.is_empty().then(String::new),
        (What::Write { value, condition }, Some(Answer::Written) | None) => {
            holds(condition).then(|| value.clone())
        }
        (What::Write { condition, .. }, Some(Answer::Conflict)) => {
            (!holds(condition)).then(|| now.to_owned())
        }
        _ => None,
    }
}

/// Whether some order of the operations fits their answers and times.
fn is_possible(left: &[&Record], now: &str) -> bool {
    let answered = |record: &&&Record| record.answered.is_some();
    if !left.iter().any(|record| answered(&record)) {
        return true;
    }
    let first_end = left.iter().map(|record| record.end()).min().unwrap_or(u64::MAX);
    let next = left.iter().enumerate();
    let mut next = next.filter(|(_, record)| record.called.number < first_end);
    next.any(|(index, record)| {
        let rest = [&left[..index], &left[index + 1..]].concat();
        let takes_effect = step(record, now).is_some_and(|then| is_possible(&rest, &then));
        takes_effect || (record.answered.is_none() && is_possible(&rest, now))
    })
}

/// Some operations at random, of which many overlap.
fn random(random: &mut fastrand::Rng, by_etag: bool) -> Vec<Record> {
    let count = random.usize(2..=6);
    let mut moments: Vec<u64> = (1..=2 * count as u64).collect();
    random.shuffle(&mut moments);
    let mut writes = 0;
    let values = ["", "v1", "v2", "v3"];
    let mut all: Vec<_> = moments
        .chunks(2)
        .map(|pair| {
            let (called, ended) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
            let writing = random.bool() && writes < 3;
            if !writing {
                let value = random.choice(values).unwrap();
                let answer = match value {
                    "" => Answer::Absent,
                    value => Answer::Found(value.to_owned(), Some(etag(value))),
                };
                return operation(What::Read, called, Some((ended, answer)));
            }
            writes += 1;
            let condition = match random.choice(values).unwrap() {
                _ if !by_etag => Condition::Any,
                "" => Condition::Absent,
                value => Condition::Etag(etag(value)),
            };
            let answer = match random.u8(0..4) {
                0 if by_etag => Some((ended, Answer::Conflict)),
                // Whether an open write was the cause of a refusal, only a last read can tell.
                1 if !by_etag => None,
                _ => Some((ended, Answer::Written)),
            };
            let value = format!("v{writes}");
            operation(What::Write { value, condition }, called, answer)
        })
        .collect();
    all.sort_by_key(|record| record.called);
    all
}

/// Nobody names an etag that it did not read before.
fn etags_were_read(records: &[Record]) -> bool {
    records.iter().all(|record| {
        let What::Write {
            condition: Condition::Etag(named),
            ..
        } = &record.call.what
        else {
            return true;
        };
        records.iter().any(|read| {
            let found = matches!(read.answer(), Some(Answer::Found(_, Some(etag))) if etag == named);
            found && read.end() < record.called.number
        })
    })
}

fn agrees(by_etag: bool, rounds: u64, check: impl Fn(&[Record]) -> Report) -> [usize; 2] {
    let mut verdicts = [0, 0];
    for seed in 0..rounds {
        let records = random(&mut fastrand::Rng::with_seed(seed), by_etag);
        if !etags_were_read(&records) {
            continue;
        }
        let possible = is_possible(&records.iter().collect::<Vec<_>>(), "");
        let report = check(&records);
        assert_eq!(
            report.violations.is_empty(),
            possible,
            "seed {seed}: {report}\n{records:#?}"
        );
        verdicts[usize::from(possible)] += 1;
    }
    verdicts
}

#[test]
fn registers_agree_with_a_search_through_all_orders() {
    let verdicts = agrees(false, 30_000, check);
    assert!(verdicts.iter().all(|count| *count > 500), "{verdicts:?}");
}

#[test]
fn etags_agree_with_a_search_through_all_orders() {
    let verdicts = agrees(true, 60_000, |records| etag::check(records, Reads::Latest));
    assert!(verdicts.iter().all(|count| *count > 500), "{verdicts:?}");
}

#[test]
fn a_stale_read_is_found_and_said() {
    let write = |value: &str| What::Write {
        value: value.to_owned(),
        condition: Condition::Any,
    };
    let found = |value: &str| Answer::Found(value.to_owned(), None);
    let records = [
        operation(write("old"), 1, Some((2, Answer::Written))),
        operation(write("new"), 3, Some((4, Answer::Written))),
        operation(What::Read, 5, Some((6, found("old")))),
    ];
    let report = check(&records);
    assert_eq!(
        report.violations,
        ["k: old was read although new had replaced it"]
    );
    assert_eq!((report.count("written"), report.count("read")), (2, 1));
}
