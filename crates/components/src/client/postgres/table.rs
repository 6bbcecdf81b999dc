//! A component's table: made when it is missing, swept now and then.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use layotto_core::{Context, Error, ErrorKind, Result};
use sqlx::{Connection, postgres::PgConnection};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Failure, Lease, Pool};

/// Held by whoever makes tables, so that sidecars that start together do not collide.
const MAKING: i64 = 0x6c61_796f_7474_6f00;

/// How often it is looked whether everything is there.
const TRIES: u32 = 3;

/// How a table looks.
pub(crate) struct Layout {
    /// Answers with one boolean: whether everything is there.
    pub(crate) exists: &'static str,
    /// Make what is missing, each in a transaction of its own.
    pub(crate) statements: &'static [&'static str],
    /// Removes rows that nobody can see any more.
    pub(crate) sweep: Option<Sweep>,
}

/// How rows are removed that nobody can see any more.
pub(crate) struct Sweep {
    /// Removes at most [`batch`](Self::batch) rows.
    pub(crate) statement: &'static str,
    /// As many rows as the statement removes at most.
    pub(crate) batch: u64,
    /// The time between sweeps.
    pub(crate) every: Duration,
}

/// A table, and the connections to its server.
pub(crate) struct Table {
    pool: Arc<Pool>,
    layout: &'static Layout,
    is_there: AtomicBool,
    /// The task that makes the table; it goes on when the caller that began it gives up.
    making: tokio::sync::Mutex<Option<JoinHandle<Result<()>>>>,
    next_sweep: Mutex<Instant>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Table {
    /// A table behind `pool`; nothing is made before the first use.
    pub(crate) fn new(pool: Arc<Pool>, layout: &'static Layout, cx: &Context) -> Arc<Self> {
        Arc::new(Self {
            pool,
            layout,
            is_there: AtomicBool::new(false),
            making: tokio::sync::Mutex::default(),
            next_sweep: Mutex::new(Instant::now()),
            tasks: cx.tasks.clone(),
            shutdown: cx.shutdown.clone(),
        })
    }

    /// A connection for one call on the table, which is there.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease> {
        if !self.is_there.load(Ordering::Acquire) {
            self.see_to_it().await?;
        }
        self.pool.lease().await
    }

    /// Ends a call with what it came to.
    pub(crate) fn settle<T>(&self, lease: Lease, outcome: Result<T, impl Into<Failure>>) -> Result<T> {
        let outcome = outcome.map_err(Into::into);
        // Somebody dropped the table, or the server has another database now.
        if let Err(failure) = &outcome
            && matches!(failure.code(), Some("42P01" | "42703"))
        {
            self.is_there.store(false, Ordering::Release);
        }
        lease.settle(outcome)
    }

    /// Asks the server whether it is there, and starts a sweep when it is time for one.
    pub(crate) async fn ping(self: &Arc<Self>) -> Result<()> {
        self.pool.ping().await?;
        if let Some(sweep) = self.due_sweep() {
            let (table, shutdown) = (Arc::clone(self), self.shutdown.clone());
            let sweeping = async move { table.sweep(sweep).await };
            self.tasks
                .spawn(async move { shutdown.run_until_cancelled(sweeping).await });
        }
        Ok(())
    }

    fn due_sweep(&self) -> Option<&'static Sweep> {
        let sweep = self.layout.sweep.as_ref()?;
        if !self.is_there.load(Ordering::Acquire) {
            return None;
        }
        let mut next = self.next_sweep.lock().unwrap_or_else(PoisonError::into_inner);
        if *next > Instant::now() {
            return None;
        }
        *next = Instant::now() + sweep.every;
        Some(sweep)
    }

    async fn sweep(self: Arc<Self>, sweep: &Sweep) {
        loop {
            let swept = async {
                let mut lease = self.lease().await?;
                let done = sqlx::query(sweep.statement).execute(lease.connection()).await;
                self.settle(lease, done)
            };
            match swept.await {
                Ok(done) if done.rows_affected() == sweep.batch => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "rows that ended are not removed");
                    return;
                }
            }
        }
    }

    async fn see_to_it(self: &Arc<Self>) -> Result<()> {
        let mut making = self.making.lock().await;
        if self.is_there.load(Ordering::Acquire) {
            return Ok(());
        }
        let task = making.get_or_insert_with(|| {
            let (table, shutdown) = (Arc::clone(self), self.shutdown.clone());
            let make = async move { shutdown.run_until_cancelled(table.make()).await };
            let stopped = || Err(Error::unavailable("the process is shutting down"));
            self.tasks
                .spawn(async move { make.await.unwrap_or_else(stopped) })
        });
        let outcome = task.await;
        *making = None;
        outcome.map_err(|error| Error::internal("making a table ended early").with_source(error))?
    }

    async fn make(self: Arc<Self>) -> Result<()> {
        let mut lease = self.pool.lease().await?;
        let outcome = make(lease.connection(), self.layout).await;
        lease.settle(outcome)?;
        self.is_there.store(true, Ordering::Release);
        Ok(())
    }
}

async fn make(connection: &mut PgConnection, layout: &Layout) -> Result<(), Failure> {
    for _ in 0..TRIES {
        let exists: bool = sqlx::query_scalar(layout.exists)
            .fetch_one(&mut *connection)
            .await?;
        if exists {
            return Ok(());
        }
        match make_missing(connection, layout).await {
            // A Go sidecar, which holds no lock, made the same thing at the same time.
            Err(failure) if is_collision(&failure) => {}
            made => made?,
        }
    }
    let lost = "postgresql: a table that was made is not found: see the search_path";
    Err(Error::new(ErrorKind::FailedPrecondition, lost).into())
}

async fn make_missing(connection: &mut PgConnection, layout: &Layout) -> Result<(), Failure> {
    for statement in layout.statements {
        let mut transaction = connection.begin().await?;
        // A table that others use is waited for briefly: whoever waits for it blocks those behind.
        let prepare =
            "select set_config('lock_timeout', '2s', true), set_config('statement_timeout', '0', true),
                       pg_advisory_xact_lock($1)";
        let made = async {
            sqlx::query(prepare)
                .bind(MAKING)
                .execute(&mut *transaction)
                .await?;
            sqlx::raw_sql(*statement).execute(&mut *transaction).await
        };
        match made.await {
            Ok(_) => transaction.commit().await?,
            Err(error) => {
                transaction.rollback().await?;
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// Whether what was to be made came into being meanwhile: a duplicate of a table, column, object,
/// or of a row of the catalogue.
fn is_collision(failure: &Failure) -> bool {
    matches!(failure.code(), Some("42P07" | "42701" | "42710" | "23505"))
}
