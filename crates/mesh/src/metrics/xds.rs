//! What came of configurations that a control plane sent.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::page::{Figure, Page, Shape};

/// Counts of configurations received from a control plane.
#[derive(Debug, Default)]
pub struct Xds {
    /// Sets of clusters taken.
    pub cds_update_success: AtomicU64,
    /// Sets of clusters refused.
    pub cds_update_reject: AtomicU64,
    /// Sets of listeners taken.
    pub lds_update_success: AtomicU64,
    /// Sets of listeners refused.
    pub lds_update_reject: AtomicU64,
}

impl Xds {
    /// Shown once a control plane has sent anything.
    pub(super) fn write(&self, page: &mut Page<'_, '_>) -> Result<(), fmt::Error> {
        let all = [
            &self.cds_update_success,
            &self.cds_update_reject,
            &self.lds_update_success,
            &self.lds_update_reject,
        ];
        let counts = all.map(|counter| counter.load(Relaxed));
        if counts.iter().sum::<u64>() == 0 {
            return Ok(());
        }
        let rows = [(vec![("xds", "info".to_owned())], counts)];
        for figure in FIGURES {
            page.figure("xds", figure, &rows, |counts| counts)?;
        }
        Ok(())
    }
}

const fn figure(key: &'static str, help: &'static str, read: fn(&[u64; 4]) -> u64) -> Figure<[u64; 4]> {
    Figure {
        key,
        shape: Shape::Growing,
        help,
        read,
    }
}

const FIGURES: &[Figure<[u64; 4]>] = &[
    figure("cds_update_success", "Sets of clusters taken", |c| c[0]),
    figure("cds_update_reject", "Sets of clusters refused", |c| c[1]),
    figure("lds_update_success", "Sets of listeners taken", |c| c[2]),
    figure(
        "ls_update_success",
        "Sets of listeners taken, under upstream's name",
        |c| c[2],
    ),
    figure("lds_update_reject", "Sets of listeners refused", |c| c[3]),
];
