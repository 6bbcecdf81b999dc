//! Removal of rows that ended, a bounded number at a time, found by their end and not by a scan.

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::{LOCK, LOCK_END, STATE, STATE_END};
use crate::clock::{Millis, is_over};

/// Rows of one table removed in one sweep: some milliseconds, during which writers wait.
const BATCH: usize = 1024;

type Ends = TableDefinition<'static, (Millis, &'static str), ()>;

/// Whether some row ended at `now`.
pub(super) fn is_due(db: &Database, now: Millis) -> Result<bool, redb::Error> {
    let tx = db.begin_read()?;
    for table in [STATE_END, LOCK_END] {
        let ends = tx.open_table(table)?;
        if let Some((end, _)) = ends.first()?
            && is_over(end.value().0, now)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes rows that ended at `now`; returns whether some are left over.
pub(super) fn sweep(tx: &WriteTransaction, now: Millis) -> Result<bool, redb::Error> {
    let mut state = tx.open_table(STATE)?;
    let more_state = sweep_table(tx, STATE_END, now, |key| Ok(state.remove(key).map(drop)?))?;
    let mut lock = tx.open_table(LOCK)?;
    let more_locks = sweep_table(tx, LOCK_END, now, |key| Ok(lock.remove(key).map(drop)?))?;
    Ok(more_state || more_locks)
}

fn sweep_table(
    tx: &WriteTransaction,
    ends: Ends,
    now: Millis,
    mut remove: impl FnMut(&str) -> Result<(), redb::Error>,
) -> Result<bool, redb::Error> {
    let mut ends = tx.open_table(ends)?;
    for _ in 0..BATCH {
        match pop_over(&mut ends, now)? {
            Some(key) => remove(&key)?,
            None => return Ok(false),
        }
    }
    Ok(true)
}

fn pop_over(ends: &mut Table<(Millis, &str), ()>, now: Millis) -> Result<Option<String>, redb::Error> {
    let due = ends.first()?.is_some_and(|(end, _)| is_over(end.value().0, now));
    if !due {
        return Ok(None);
    }
    Ok(ends.pop_first()?.map(|(end, _)| end.value().1.to_owned()))
}
