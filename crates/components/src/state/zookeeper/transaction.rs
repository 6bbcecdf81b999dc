//! Transactions: one request of several writes, which the servers carry out wholly or not at all.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, stream};
use layotto_core::{Error, ErrorKind, Result};
use zookeeper_client::{Client, Error as Cause, MultiWriteError, MultiWriter};

use super::{
    super::change,
    HEADER, Zookeeper,
    write::{AT_ONCE, Step, Write},
};
use crate::client::zookeeper::{Failure, PERSISTENT};

/// How often a transaction is made up anew because a node came or went in between.
const TRIES: u32 = 8;

/// What a refusal of the servers means.
enum Refusal {
    /// A node is not as the caller needs it.
    Conflict,
    /// A node came or went since it was looked at: nothing was changed.
    Outdated,
}

impl Zookeeper {
    /// Makes all `writes` in order, or none.
    pub(super) async fn carry_out(&self, writes: &[Write]) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let sizes = writes
            .iter()
            .map(|write| self.path(&write.key).len() + write.size() + HEADER);
        let bytes = sizes.sum();
        self.check_size(bytes)?;
        for _ in 0..TRIES {
            let plan = Plan::new(self, writes).await?;
            if plan.makes_nodes() {
                self.see_to_parent().await?;
            }
            match self.commit(plan, bytes).await? {
                None => return Ok(()),
                Some(Refusal::Conflict) => return Err(change::conflict()),
                Some(Refusal::Outdated) => {}
            }
        }
        let message = "zookeeper: other writers kept the transaction from being carried out";
        Err(Error::new(ErrorKind::Conflict, message))
    }

    async fn see_to_parent(&self) -> Result<()> {
        let parent = self.parent.clone();
        if parent.is_empty() {
            return Ok(());
        }
        let make = |session: Client| async move {
            match session.check_stat(&parent).await? {
                Some(_) => Ok(()),
                None => session.mkdir(&parent, &PERSISTENT).await,
            }
        };
        Ok(self.ensemble.call(0, make).await?)
    }

    async fn commit(&self, plan: Plan, bytes: usize) -> Result<Option<Refusal>> {
        let commit = |session: Client| async move {
            let mut writer = session.new_multi_writer();
            for step in &plan.steps {
                step.add(&mut writer)?;
            }
            match writer.commit().await {
                Ok(_) => Ok(None),
                Err(MultiWriteError::OperationFailed { index, source }) => {
                    let step = plan.steps.get(index).ok_or(source.clone())?;
                    step.refusal(source).map(Some)
                }
                Err(MultiWriteError::RequestFailed { source }) => Err(source),
            }
        };
        Ok(self.ensemble.call(bytes, commit).await?)
    }
}

/// The writes of a transaction, made up for nodes as they were found.
struct Plan {
    steps: Vec<Planned>,
}

struct Planned {
    path: String,
    step: Step,
    /// For a write whatever there is: whether the node will be there.
    is_there: bool,
}

impl Plan {
    async fn new(store: &Zookeeper, writes: &[Write]) -> Result<Self> {
        let mut there = find(store, writes).await?;
        let mut steps = Vec::new();
        for write in writes {
            let path = store.path(&write.key);
            let is_there = there.get(&path).copied().unwrap_or_default();
            let stays = !matches!(write.step, Step::Remove | Step::RemoveVersion(_));
            there.insert(path.clone(), stays);
            if matches!(write.step, Step::Remove) && !is_there {
                continue;
            }
            let step = write.step.clone();
            steps.push(Planned { path, step, is_there });
        }
        Ok(Self { steps })
    }

    fn makes_nodes(&self) -> bool {
        self.steps.iter().any(Planned::makes_node)
    }
}

/// Which nodes of writes that take them as they are are there.
async fn find(store: &Zookeeper, writes: &[Write]) -> Result<HashMap<String, bool>> {
    let open = writes
        .iter()
        .filter(|write| matches!(write.step, Step::Put(_) | Step::Remove));
    let paths: HashSet<_> = open.map(|write| store.path(&write.key)).collect();
    let looks = stream::iter(paths).map(|path| async move {
        let asked = path.clone();
        let look = |session: Client| async move { session.check_stat(&asked).await };
        let found: Result<_, Failure> = store.ensemble.call(0, look).await;
        Ok((path, found?.is_some()))
    });
    let found: Vec<Result<_>> = looks.buffered(AT_ONCE).collect().await;
    found.into_iter().collect()
}

impl Planned {
    fn makes_node(&self) -> bool {
        match self.step {
            Step::Create(_) => true,
            Step::Put(_) => !self.is_there,
            _ => false,
        }
    }

    fn add(&self, writer: &mut MultiWriter<'_>) -> Result<(), Cause> {
        match &self.step {
            Step::Put(value) if self.is_there => writer.add_set_data(&self.path, value, None),
            Step::Put(value) | Step::Create(value) => writer.add_create(&self.path, value, &PERSISTENT),
            Step::Set(value, version) => writer.add_set_data(&self.path, value, Some(*version)),
            Step::Remove => writer.add_delete(&self.path, None),
            Step::RemoveVersion(version) => writer.add_delete(&self.path, Some(*version)),
        }
    }

    fn refusal(&self, cause: Cause) -> Result<Refusal, Cause> {
        match (&self.step, cause) {
            (Step::Put(_) | Step::Remove, Cause::NoNode | Cause::NodeExists) => Ok(Refusal::Outdated),
            (_, Cause::NoNode | Cause::NodeExists | Cause::BadVersion) => Ok(Refusal::Conflict),
            (_, cause) => Err(cause),
        }
    }
}
