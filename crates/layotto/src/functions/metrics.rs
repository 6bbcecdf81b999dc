//! The metrics that guests define, for Prometheus. Their names are any text, so that they are labels.

use std::{fmt, sync::Arc};

use layotto_wasm::{BOUNDS, Metric, Shared, Value};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

/// What guests of a process defined.
#[derive(Debug)]
pub struct OfGuests(pub Arc<Shared>);

impl Collector for OfGuests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.0.metrics();
        let families = [
            (MetricType::Counter, "layotto_guest_counter", "Counters of guests"),
            (MetricType::Gauge, "layotto_guest_gauge", "Gauges of guests"),
            (
                MetricType::Histogram,
                "layotto_guest_histogram",
                "Histograms of guests",
            ),
        ];
        for (kind, name, help) in families {
            let mut rows = all.iter().filter(|metric| is(kind, metric)).peekable();
            if rows.peek().is_none() {
                continue;
            }
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for Metric { name, value } in rows {
                let labels = [("name", name.as_str())];
                let mut row = family.encode_family(&labels)?;
                match value {
                    Value::Counter(count) => row.encode_counter::<NoLabelSet, u64, u64>(count, None)?,
                    Value::Gauge(level) => row.encode_gauge(level)?,
                    Value::Histogram { count, sum, buckets } => {
                        let bounds = BOUNDS.iter().map(|bound| *bound as f64).chain([f64::INFINITY]);
                        let buckets: Vec<_> = bounds.zip(buckets.iter().copied()).collect();
                        row.encode_histogram::<NoLabelSet>(*sum as f64, *count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn is(kind: MetricType, metric: &Metric) -> bool {
    let found = match metric.value {
        Value::Counter(_) => MetricType::Counter,
        Value::Gauge(_) => MetricType::Gauge,
        Value::Histogram { .. } => MetricType::Histogram,
    };
    std::mem::discriminant(&found) == std::mem::discriminant(&kind)
}
