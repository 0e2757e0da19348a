//! An in-memory store: the simplest implementation of the [`Store`] contract, with faults on demand.

mod tables;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::VirtualClock;
use crate::{
    barrier::{Before, Mark, Op},
    clock::{Clock, after},
    event::SagaId,
    store::{
        Admission, Changes, Committed, DeclaredStep, DueTimer, FailedCompensation, LockedStep, OutboxRow, ParkedEvent,
        ParkedLabel, Store, StoreError, Summary, Unsent,
    },
};
use tables::Tables;

/// An in-memory database of a participant. A clone is the same database, so that it outlives a simulated crash of its
/// runtime. As in a real database, its clock is independent of the process; it moves with tokio's.
#[derive(Clone)]
pub struct MemoryStore {
    clock: VirtualClock,
    tables: Arc<tokio::sync::Mutex<Tables>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { clock: VirtualClock::start(), tables: Arc::default(), faults: Arc::default() }
    }
}

/// The next fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The transaction cannot begin.
    Begin,
    /// The outbox cannot be read.
    Read,
    /// The transaction is rolled back at its commit.
    Commit,
    /// The transaction commits, but the answer is lost.
    CommitAnswer,
    /// The transaction is rolled back because of a deadlock.
    Deadlock,
    /// The transaction cannot begin, since another one holds a lock that it needs.
    Lock,
}

/// An open transaction: a copy of the tables that replaces them on commit.
pub struct MemoryTx {
    committed: OwnedMutexGuard<Tables>,
    working: Tables,
}

impl MemoryTx {
    /// Reads a value of the participant's own data.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.working.data.get(key).and_then(|value| serde_json::from_value(value.clone()).ok())
    }

    /// Writes a value of the participant's own data.
    pub fn put<T: Serialize>(&mut self, key: &str, value: &T) {
        self.working.data.insert(key.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }
}

impl MemoryStore {
    /// Injects these faults: each occurs once, at the next opportunity, in this order.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Takes the faults back that have not occurred.
    pub fn clear_faults(&self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn fault(&self, at: &[Fault]) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.pop_front_if(|fault| at.contains(fault))
    }

    /// A committed value of the participant's own data.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.tables.lock().await.data.get(key).and_then(|value| serde_json::from_value(value.clone()).ok())
    }

    /// Writes a value of the participant's own data.
    pub async fn put<T: Serialize>(&self, key: &str, value: &T) {
        self.tables.lock().await.data.insert(key.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }

    /// A committed barrier row.
    pub async fn mark(&self, saga_id: SagaId, step: &str, op: Op) -> Option<Mark> {
        self.tables.lock().await.barrier.get(&(saga_id, step.to_owned(), op)).map(|row| row.mark)
    }

    /// The compensations that failed for good, in the order of their sagas and steps.
    pub async fn failed_compensations(&self) -> Vec<FailedCompensation> {
        self.tables.lock().await.failed.values().cloned().collect()
    }

    /// Lets a saga that is blocked by a dead letter continue, as an operator does.
    pub async fn release_held(&self, saga_id: SagaId) {
        let now = self.clock.now();
        for parked in self.tables.lock().await.parked.values_mut().filter(|p| p.saga_id == saga_id && p.blocked) {
            (parked.blocked, parked.due, parked.attempts) = (false, Some(now), 0);
        }
    }

    async fn open(&self) -> Result<MemoryTx, StoreError> {
        match self.fault(&[Fault::Begin, Fault::Deadlock, Fault::Lock]) {
            Some(Fault::Lock) => return Err(StoreError::Locked("injected lock".to_owned())),
            Some(Fault::Begin) => return Err(StoreError::Unavailable("injected at BEGIN".to_owned())),
            Some(_) => return Err(StoreError::Conflict("injected deadlock".to_owned())),
            None => {}
        }
        let committed = self.tables.clone().lock_owned().await;
        let working = committed.clone();
        Ok(MemoryTx { committed, working })
    }
}

impl Store for MemoryStore {
    type Tx = MemoryTx;

    async fn begin(&self, admissions: &[Admission], _: Duration) -> Result<(MemoryTx, Vec<Before>), StoreError> {
        let mut tx = self.open().await?;
        let before = admissions.iter().map(|admission| tx.working.admit(admission)).collect();
        Ok((tx, before))
    }

    async fn commit(&self, mut tx: MemoryTx, changes: Changes) -> Result<Committed, StoreError> {
        let fault = self.fault(&[Fault::Commit, Fault::CommitAnswer]);
        if fault == Some(Fault::Commit) {
            return Err(StoreError::Unavailable("injected at COMMIT".to_owned()));
        }
        let committed = tx.working.apply(changes, self.clock.now());
        *tx.committed = tx.working;
        match fault {
            Some(_) => Err(StoreError::Unavailable("injected after COMMIT".to_owned())),
            None => Ok(committed),
        }
    }

    async fn claim_parked(
        &self,
        lease: Duration,
        limit: usize,
        resting: &[&str],
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let now = self.clock.now();
        let mut tables = self.tables.lock().await;
        let due = tables
            .parked
            .iter_mut()
            .filter(|(_, parked)| parked.due.is_some_and(|due| due <= now) && !parked.rests(resting));
        Ok(due.take(limit).map(|(seq, parked)| (parked.due = Some(after(now, lease)), parked.event(*seq)).1).collect())
    }

    async fn unlabelled_parked(&self, _: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        // No earlier version of the framework has written here.
        Ok(Vec::new())
    }

    async fn label_parked(&self, _: &[ParkedLabel]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn begin_due(&self, limit: usize, _: Duration) -> Result<(MemoryTx, Vec<DueTimer>), StoreError> {
        let mut tx = self.open().await?;
        let now = self.clock.now();
        let mut due: Vec<DueTimer> = tx.working.timers.values().filter(|t| t.due <= now).cloned().collect();
        due.sort_by_key(|timer| timer.due);
        due.truncate(limit);
        for timer in &due {
            tx.working.timers.remove(&(timer.saga_id, timer.step.clone(), timer.kind));
        }
        Ok((tx, due))
    }

    async fn lock_steps(&self, tx: &mut MemoryTx, steps: &[(SagaId, &str)]) -> Result<Vec<LockedStep>, StoreError> {
        let locked = |(saga_id, step): &(SagaId, &str)| {
            let key = (*saga_id, (*step).to_owned(), Op::Action);
            let arrivals = tx.working.arrivals.get(&key).into_iter().flatten();
            let partly_compensated = arrivals.into_iter().any(|arrival| arrival.partly_compensated);
            let mark = tx.working.barrier.get(&key).map(|row| row.mark);
            LockedStep { mark, partly_compensated, ended: tx.working.has_ended(*saga_id) }
        };
        Ok(steps.iter().map(locked).collect())
    }

    async fn postpone(&self, timers: &[DueTimer], wait: Duration) -> Result<(), StoreError> {
        let now = self.clock.now();
        for armed in self.tables.lock().await.timers.values_mut().filter(|armed| timers.contains(armed)) {
            armed.due = after(now, wait);
        }
        Ok(())
    }

    async fn unsent(&self, behind: i64, grace: Duration, limit: usize) -> Result<Vec<Unsent>, StoreError> {
        if self.fault(&[Fault::Read]).is_some() {
            return Err(StoreError::Unavailable("injected at a read".to_owned()));
        }
        let now = self.clock.now();
        let tables = self.tables.lock().await;
        let place = |(seq, row): (&i64, &OutboxRow)| {
            let young = after(row.created_at, grace) > now;
            Unsent { seq: *seq, id: row.id, saga_id: row.saga_id, young }
        };
        Ok(tables.outbox.range(behind + 1..).take(limit).map(place).collect())
    }

    async fn outbox(&self, ids: &[Uuid]) -> Result<Vec<OutboxRow>, StoreError> {
        Ok(self.tables.lock().await.outbox.values().filter(|row| ids.contains(&row.id)).cloned().collect())
    }

    async fn mark_sent(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        self.tables.lock().await.outbox.retain(|_, row| !ids.contains(&row.id));
        Ok(())
    }

    async fn declared_steps(&self) -> Result<Vec<DeclaredStep>, StoreError> {
        let tables = self.tables.lock().await;
        let step =
            |(name, triggers): (&String, &Vec<String>)| DeclaredStep { name: name.clone(), triggers: triggers.clone() };
        Ok(tables.steps.iter().map(step).collect())
    }

    async fn declare_steps(&self, steps: &[DeclaredStep]) -> Result<(), StoreError> {
        let steps = steps.iter().map(|step| (step.name.clone(), step.triggers.clone()));
        self.tables.lock().await.steps.extend(steps);
        Ok(())
    }

    async fn sagas_of_step(&self, step: &str) -> Result<u64, StoreError> {
        let tables = self.tables.lock().await;
        let barrier = tables.barrier.keys().filter(|(_, name, _)| name == step).map(|(saga, ..)| *saga);
        let parked = tables.parked.values().filter(|parked| parked.step == step).map(|parked| parked.saga_id);
        let sagas: BTreeSet<SagaId> = barrier.chain(parked).collect();
        Ok((sagas.len() as u64).min(u64::from(Summary::COUNTED)))
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        let tables = self.tables.lock().await;
        let unfinished =
            || tables.progress.values().filter(|(_, ended)| ended.is_none()).filter_map(|(begun, _)| *begun);
        let heads = tables.heads();
        Ok(Summary {
            outbox_pending: tables.outbox.len() as u64,
            outbox_oldest: tables.outbox.values().next().map(|row| row.created_at),
            parked_sagas: heads.iter().filter(|p| !p.blocked).count() as u64,
            blocked_sagas: heads.iter().filter(|p| p.blocked).count() as u64,
            parked_oldest: heads.iter().filter(|p| !p.blocked).filter_map(|p| p.failed_at).min(),
            failed_compensations: tables.failed.len() as u64,
            timers: tables.timers.len() as u64,
            unfinished_sagas: unfinished().count() as u64,
            unfinished_oldest: unfinished().min(),
            at: Some(self.clock.now()),
        })
    }
}
