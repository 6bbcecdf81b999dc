//! What the process is and uses: memory, files, processor time, connections, health.

use std::{fmt, fs};

use layotto_api::metrics::Metrics;
use layotto_core::health::{Health, Status};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::plane::Directory;

/// Adds the metrics of the process itself.
pub fn register(metrics: &Metrics) {
    metrics.register(|registry| registry.register_collector(Box::new(Process)));
}

/// Adds the health of every part.
pub fn watch_health(metrics: &Metrics, health: Health) {
    metrics.register(|registry| registry.register_collector(Box::new(Parts(health))));
}

/// Adds the open connections of every listener, each with its name.
pub fn watch_connections(metrics: &Metrics, listeners: Directory) {
    metrics.register(|registry| registry.register_collector(Box::new(Open(listeners))));
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let resident = ConstGauge::new(resident_bytes());
        let metric = encoder.encode_descriptor(
            "process_resident_memory",
            "Resident memory",
            Some(&Unit::Bytes),
            resident.metric_type(),
        )?;
        resident.encode(metric)?;
        let files = ConstGauge::new(open_files());
        let metric = encoder.encode_descriptor(
            "process_open_fds",
            "Open file descriptors",
            None,
            files.metric_type(),
        )?;
        files.encode(metric)?;
        let cpu = ConstCounter::new(cpu_seconds());
        let metric = encoder.encode_descriptor(
            "process_cpu",
            "Processor time used",
            Some(&Unit::Seconds),
            cpu.metric_type(),
        )?;
        cpu.encode(metric)
    }
}

/// From `/proc/self/statm`, see proc(5); 0 where there is no such file.
fn resident_bytes() -> i64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<i64>().ok());
    pages.unwrap_or_default() * i64::try_from(rustix::param::page_size()).unwrap_or_default()
}

fn open_files() -> i64 {
    fs::read_dir("/proc/self/fd").map_or(0, |files| i64::try_from(files.count()).unwrap_or_default())
}

/// User and system time from `/proc/self/stat`, see proc(5); 0 where there is no such file.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold blanks.
    let fields = stat
        .rsplit_once(')')
        .map_or("", |(_, fields)| fields)
        .split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

#[derive(Debug)]
struct Parts(Health);

impl Collector for Parts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let up = ConstGauge::new(0_i64);
        let mut family =
            encoder.encode_descriptor("layotto_up", "Whether a part works", None, up.metric_type())?;
        for reading in self.0.readings() {
            let up = ConstGauge::new(i64::from(reading.status == Status::Up));
            up.encode(family.encode_family(&[("part", reading.name)])?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Open(Directory);

impl Collector for Open {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let open = ConstGauge::new(0_i64);
        let mut family = encoder.encode_descriptor(
            "layotto_connections",
            "Open connections of a listener",
            None,
            open.metric_type(),
        )?;
        for (listener, bound) in self.0.bound() {
            let open = ConstGauge::new(i64::try_from(bound.connections.open()).unwrap_or(i64::MAX));
            open.encode(family.encode_family(&[("listener", listener.as_str())])?)?;
        }
        Ok(())
    }
}
