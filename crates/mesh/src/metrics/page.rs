//! Writes families of figures, under upstream's names.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::MetricType,
};

use super::{histogram::Reading, matcher::Matcher};

/// How many label values of one family are told apart; what is beyond counts as [`OTHER`].
pub(super) const CAP: usize = 1000;

/// The label value of what is beyond the cap.
pub(super) const OTHER: &str = "other";

/// The labels of a row.
pub(super) type Labels = Vec<(&'static str, String)>;

/// How a figure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// It only grows and its name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It only grows, but the format would add `_total` to upstream's name.
    Growing,
}

/// One figure of a kind of rows.
pub(super) struct Figure<T> {
    pub(super) key: &'static str,
    pub(super) shape: Shape,
    pub(super) help: &'static str,
    pub(super) read: fn(&T) -> u64,
}

/// The page that is being written.
pub(super) struct Page<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
    matcher: &'a Matcher,
}

impl<'a, 'e> Page<'a, 'e> {
    pub(super) fn new(encoder: &'a mut DescriptorEncoder<'e>, matcher: &'a Matcher) -> Self {
        Self { encoder, matcher }
    }

    /// Writes one figure of all rows; `of` takes a row's figures out of it.
    pub(super) fn figure<T, R>(
        &mut self,
        kind: &str,
        figure: &Figure<T>,
        rows: &[(Labels, R)],
        of: impl Fn(&R) -> &T,
    ) -> Result<(), fmt::Error> {
        let shown = self.shown(kind, figure.key, rows);
        if shown.is_empty() {
            return Ok(());
        }
        let (key, shape) = match figure.shape {
            Shape::Counter => (
                figure.key.strip_suffix("_total").unwrap_or(figure.key),
                MetricType::Counter,
            ),
            Shape::Gauge => (figure.key, MetricType::Gauge),
            Shape::Growing => (figure.key, MetricType::Unknown),
        };
        let name = format!("{kind}_{key}");
        let mut family = self.encoder.encode_descriptor(&name, figure.help, None, shape)?;
        for (labels, row) in shown {
            let value = (figure.read)(of(row));
            let mut encoder = family.encode_family(labels)?;
            match figure.shape {
                Shape::Counter => {
                    encoder.encode_counter::<Labels, u64, u64>(&value, None)?;
                }
                Shape::Gauge | Shape::Growing => {
                    encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))?;
                }
            }
        }
        Ok(())
    }

    /// Writes a histogram of all rows that have one.
    pub(super) fn histogram<T>(
        &mut self,
        kind: &str,
        key: &str,
        help: &str,
        rows: &[(Labels, T)],
        read: impl Fn(&T) -> Option<&Reading>,
    ) -> Result<(), fmt::Error> {
        let shown = self.shown(kind, key, rows);
        let mut shown = shown
            .into_iter()
            .filter_map(|(labels, row)| Some((labels, read(row)?)))
            .peekable();
        if shown.peek().is_none() {
            return Ok(());
        }
        let name = format!("{kind}_{key}");
        let mut family = self
            .encoder
            .encode_descriptor(&name, help, None, MetricType::Histogram)?;
        for (labels, reading) in shown {
            reading.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn shown<'r, T>(&self, kind: &str, key: &str, rows: &'r [(Labels, T)]) -> Vec<&'r (Labels, T)> {
        if !self.matcher.shows_key(kind, key) {
            return Vec::new();
        }
        let shown = |row: &&(Labels, T)| row.0.iter().all(|(name, _)| self.matcher.shows_label(name));
        rows.iter().filter(shown).collect()
    }
}
