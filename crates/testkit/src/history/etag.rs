//! Keys that are written by etag: one winner for each version.
//!
//! Every write names the version that it replaces, so that the versions of a key are a chain. The
//! chain must fit the time that the operations took.

use std::collections::{BTreeMap, HashMap};

use super::{
    Report,
    register::{Answer, Condition, Record, What, by_key},
};

/// What a store promises of its reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The last version written.
    Latest,
    /// Some version written.
    MayLag,
}

/// Looks for versions that two writes replaced, writes that were refused and took effect, or were
/// refused although nothing had changed, and reads of what is not there or not there any more.
pub fn check(operations: &[Record], reads: Reads) -> Report {
    let mut report = Report::new("etags", operations);
    let (mut versions, mut conflicts) = (0, 0);
    for (key, records) in by_key(operations) {
        let refused = records
            .iter()
            .copied()
            .filter(|record| record.answer() == Some(&Answer::Conflict));
        let refused: Vec<_> = refused.collect();
        let chain = Chain::new(key, &records, &mut report);
        let readers = chain.readers(&records, &mut report);
        if reads == Reads::Latest {
            let moments = chain.moments(&readers, &mut report);
            chain.check_refusals(&refused, &moments, &mut report);
        }
        versions += chain.versions.len() - 1;
        conflicts += refused.len();
    }
    report.counts = vec![("versions", versions), ("conflicts", conflicts)];
    report
}

/// One version of a key.
struct Version<'h> {
    /// Empty where there is nothing yet.
    value: &'h str,
    called: u64,
    ended: u64,
}

struct Chain<'h> {
    key: &'h str,
    /// From the one that was there before; each replaces the one before it.
    versions: Vec<Version<'h>>,
    /// Where in the chain the version with a value is.
    places: HashMap<&'h str, usize>,
    /// The value that has an etag.
    values: Pairs<'h>,
}

impl<'h> Chain<'h> {
    fn new(key: &'h str, records: &[&'h Record], report: &mut Report) -> Self {
        let (values, etags) = pairs(key, records, report);
        let mut winners = winners(key, records, &etags, report);
        let mut versions = vec![Version {
            value: "",
            called: 0,
            ended: 0,
        }];
        let mut condition = Condition::Absent;
        while let Some(winner) = winners.remove(&condition) {
            let Some(value) = written(winner) else { break };
            versions.push(Version {
                value,
                called: winner.called.number,
                ended: winner.end(),
            });
            match etags.get(value) {
                Some(etag) => condition = Condition::Etag((*etag).to_owned()),
                None => break,
            }
        }
        for (condition, lost) in winners {
            let value = written(lost).unwrap_or_default();
            report.violation(format!(
                "{key}: {value} replaced {condition:?}, which was never there"
            ));
        }
        let places = versions.iter().enumerate();
        let places = places.map(|(place, version)| (version.value, place));
        Self {
            key,
            places: places.collect(),
            versions,
            values,
        }
    }

    fn place(&self, value: &str) -> Option<usize> {
        self.places.get(value).copied()
    }

    /// The reads of each version.
    fn readers<'r>(&self, records: &[&'r Record], report: &mut Report) -> Vec<Vec<&'r Record>> {
        let mut readers = vec![Vec::new(); self.versions.len()];
        for record in records {
            let value = match record.answer() {
                Some(Answer::Found(value, _)) => value.as_str(),
                Some(Answer::Absent) => "",
                _ => continue,
            };
            match self.place(value).and_then(|place| readers.get_mut(place)) {
                Some(readers) => readers.push(*record),
                None => report.violation(format!("{}: {value} was read and is no version", self.key)),
            }
        }
        readers
    }

    /// The earliest moment at which each version can have become current; finds writes and reads
    /// that were over by then.
    fn moments(&self, readers: &[Vec<&Record>], report: &mut Report) -> Vec<u64> {
        let key = self.key;
        let mut moments = Vec::new();
        let mut moment = 0;
        for (version, readers) in self.versions.iter().zip(readers) {
            let value = version.value;
            moment = moment.max(version.called);
            if moment > version.ended {
                report.violation(format!(
                    "{key}: what {value} replaced was there after {value} was"
                ));
            }
            for reader in readers.iter().filter(|reader| reader.end() < moment) {
                let client = reader.client;
                report.violation(format!("{key}: client {client} read {value} before it was there"));
            }
            moments.push(moment);
            let last = readers.iter().map(|reader| reader.called.number).max();
            moment = moment.max(last.unwrap_or_default());
        }
        moments
    }

    /// A write may be refused only where the version that it names could be replaced by then.
    fn check_refusals(&self, refused: &[&Record], moments: &[u64], report: &mut Report) {
        for record in refused {
            let named = match condition(record) {
                Some(Condition::Etag(etag)) => self.values.get(etag.as_str()).copied(),
                Some(Condition::Absent) => Some(""),
                _ => None,
            };
            let Some(place) = named.and_then(|value| self.place(value)) else {
                continue;
            };
            let replaced = moments.get(place + 1);
            if replaced.is_none_or(|replaced| *replaced > record.end()) {
                let (key, value) = (self.key, written(record).unwrap_or_default());
                report.violation(format!("{key}: {value} was refused though nothing had changed"));
            }
        }
    }
}

fn written(record: &Record) -> Option<&str> {
    match &record.call.what {
        What::Write { value, .. } => Some(value),
        What::Read => None,
    }
}

fn condition(record: &Record) -> Option<&Condition> {
    match &record.call.what {
        What::Write { condition, .. } => Some(condition),
        What::Read => None,
    }
}

type Pairs<'h> = HashMap<&'h str, &'h str>;

/// The value of each etag and the etag of each value, from what was read.
fn pairs<'h>(key: &str, records: &[&'h Record], report: &mut Report) -> (Pairs<'h>, Pairs<'h>) {
    let (mut values, mut etags) = (HashMap::new(), HashMap::new());
    for record in records {
        let Some(Answer::Found(value, Some(etag))) = record.answer() else {
            continue;
        };
        let (value, etag) = (value.as_str(), etag.as_str());
        if let Some(other) = values.insert(etag, value).filter(|other| *other != value) {
            report.violation(format!("{key}: {other} and {value} have the etag {etag}"));
        }
        if let Some(other) = etags.insert(value, etag).filter(|other| *other != etag) {
            report.violation(format!("{key}: {value} has the etags {other} and {etag}"));
        }
    }
    (values, etags)
}

/// The write that took effect on each condition: acknowledged, or seen by a reader.
fn winners<'h>(
    key: &str,
    records: &[&'h Record],
    etags: &Pairs<'h>,
    report: &mut Report,
) -> BTreeMap<Condition, &'h Record> {
    let mut winners: BTreeMap<Condition, &'h Record> = BTreeMap::new();
    for record in records {
        let (Some(value), Some(condition)) = (written(record), condition(record)) else {
            continue;
        };
        let seen = etags.contains_key(value);
        match record.answer() {
            Some(Answer::Written) => {}
            Some(Answer::Conflict) if seen => {
                report.violation(format!("{key}: {value} was refused and written"));
                continue;
            }
            None if seen => {}
            _ => continue,
        }
        if let Some(other) = winners.insert(condition.clone(), record) {
            let other = written(other).unwrap_or_default();
            report.violation(format!("{key}: {other} and {value} both replaced {condition:?}"));
        }
    }
    winners
}

#[cfg(test)]
mod tests;
