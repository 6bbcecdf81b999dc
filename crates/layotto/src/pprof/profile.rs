//! A profile as pprof's protobuf has it (<https://github.com/google/pprof>, `profile.proto`).

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use prost::Message;

use super::sampler::FREQUENCY;

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

/// Texts are places in the table of strings.
#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// Gives each thing a number, from 0.
#[derive(Default)]
struct Numbers(HashMap<String, usize>);

impl Numbers {
    fn of(&mut self, text: &str) -> usize {
        let next = self.0.len();
        *self.0.entry(text.to_owned()).or_insert(next)
    }

    fn into_list(self) -> Vec<String> {
        let mut list: Vec<_> = self.0.into_iter().collect();
        list.sort_unstable_by_key(|(_, number)| *number);
        list.into_iter().map(|(text, _)| text).collect()
    }
}

/// The profile of these samples, the addresses of instructions.
pub fn encode(samples: &[usize], begun: SystemTime, length: Duration) -> Vec<u8> {
    let mut strings = Numbers::default();
    // By the format's rule, the empty one.
    strings.of("");
    let mut functions = Numbers::default();
    let mut counts: BTreeMap<usize, i64> = BTreeMap::new();
    for address in samples {
        *counts.entry(*address).or_default() += 1;
    }
    let mut profile = Profile {
        sample_type: vec![
            value(&mut strings, "samples", "count"),
            value(&mut strings, "cpu", "nanoseconds"),
        ],
        period_type: Some(value(&mut strings, "cpu", "nanoseconds")),
        period: PERIOD,
        time_nanos: nanos(begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        duration_nanos: nanos(length),
        ..Profile::default()
    };
    for (id, (address, count)) in (1..).zip(counts) {
        profile.sample.push(Sample {
            location_id: vec![id],
            value: vec![count, count * PERIOD],
        });
        let line = |(name, line): (String, i64)| Line {
            function_id: functions.of(&name) as u64 + 1,
            line,
        };
        profile.location.push(Location {
            id,
            address: address as u64,
            line: lines(address).into_iter().map(line).collect(),
        });
    }
    for (id, name) in (1..).zip(functions.into_list()) {
        let name = strings.of(&name) as i64;
        profile.function.push(Function {
            id,
            name,
            system_name: name,
            filename: 0,
        });
    }
    profile.string_table = strings.into_list();
    profile.encode_to_vec()
}

/// Nanoseconds of processor time that a sample stands for.
const PERIOD: i64 = 1_000_000_000 / FREQUENCY as i64;

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn value(strings: &mut Numbers, kind: &str, unit: &str) -> ValueType {
    ValueType {
        kind: strings.of(kind) as i64,
        unit: strings.of(unit) as i64,
    }
}

/// The functions at an address, with lines where the program's file tells: what was inlined first.
fn lines(address: usize) -> Vec<(String, i64)> {
    let mut lines = Vec::new();
    backtrace::resolve(address as *mut _, |symbol| {
        if let Some(name) = symbol.name() {
            // Without the hash behind it.
            lines.push((format!("{name:#}"), symbol.lineno().map_or(0, i64::from)));
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_function_are_one_with_their_number_and_time() {
        let here = encode as *const () as usize + 1;
        let bytes = encode(&[here, here, 1], SystemTime::UNIX_EPOCH, Duration::from_secs(2));
        let profile = Profile::decode(&*bytes).unwrap();
        let [unknown, known] = &*profile.sample else {
            panic!("{profile:?}")
        };
        assert_eq!(unknown.value, [1, 10_000_000]);
        assert_eq!(known.value, [2, 20_000_000]);
        assert!(profile.location[0].line.is_empty());
        let function = profile.location[1].line.last().unwrap().function_id;
        let function = &profile.function[function as usize - 1];
        let name = &profile.string_table[function.name as usize];
        assert!(name.ends_with("encode"), "{name}");
        assert_eq!(profile.string_table[0], "");
        assert_eq!(
            (profile.period, profile.duration_nanos),
            (10_000_000, 2_000_000_000)
        );
    }
}
