//! A store in memory: the contract of [`Store`] in its plainest form, with faults on demand.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::VirtualClock;
use crate::{
    barrier::{Before, Mark, Op, Row},
    clock::{Clock, after},
    event::SagaId,
    record::Record,
    store::{
        Admission, Changes, Committed, DeclaredStep, DueTimer, OutboxRow, ParkChange, ParkedAt, ParkedEvent,
        ParkedLabel, Parking, Phase, Progress, Store, StoreError, Summary, Timer, Unsent,
    },
};

/// A participant's database in memory. A clone is the same database, so that it outlives a "crash" of its runtime. It has
/// a clock of its own, as databases have, which moves with tokio's.
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

/// What goes wrong next.
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
    /// The transaction cannot begin, since somebody holds a lock that it needs.
    Lock,
}

#[derive(Clone, Default)]
struct Tables {
    barrier: BTreeMap<(SagaId, String, Op), Row>,
    outbox: BTreeMap<i64, OutboxRow>,
    last_written: i64,
    parked: BTreeMap<i64, Parked>,
    last_seq: i64,
    timers: BTreeMap<(SagaId, String), DueTimer>,
    steps: BTreeMap<String, Vec<String>>,
    progress: BTreeMap<SagaId, (Option<Timestamp>, Option<Timestamp>)>,
    data: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone)]
struct Parked {
    saga_id: SagaId,
    cause: Uuid,
    step: &'static str,
    op: Op,
    record: Record,
    attempts: u32,
    /// None of one that waits behind the head, and of one that is blocked.
    due: Option<Timestamp>,
    failed_at: Option<Timestamp>,
    blocked: bool,
}

impl Parked {
    fn event(&self, seq: i64) -> ParkedEvent {
        let Self { saga_id, attempts, failed_at, record, .. } = self.clone();
        ParkedEvent { seq, saga_id, attempts, failed_at, record }
    }

    fn rests(&self, resting: &[&str]) -> bool {
        resting.contains(&self.step) && (self.op == Op::Action || self.failed_at.is_some())
    }

    fn new(parking: Parking, waits: bool, now: Timestamp) -> Self {
        let Parking { saga_id, cause, step, op, record, attempts, pause, failed_at, blocked, .. } = parking;
        let due = (!blocked && !waits).then(|| after(now, pause));
        Self { saga_id, cause, step, op, record, attempts, due, failed_at, blocked }
    }
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
    /// These go wrong, one at each coming opportunity, in this order.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
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

    /// An operator lets a saga go on whose head was dead-lettered.
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

impl Tables {
    fn admit(&mut self, admission: &Admission) -> Before {
        let key = |op| (admission.saga_id, admission.step.to_owned(), op);
        let own = |p: &Parked| p.saga_id == admission.saga_id && p.step == admission.step && p.op == Op::Action;
        let action = self.parked.iter().find(|(_, parked)| own(parked)).map(|(seq, _)| *seq);
        let overtakes = action.filter(|_| admission.op == Op::Compensate);
        let queued = !admission.from_parked && self.parked.values().any(|p| p.saga_id == admission.saga_id);
        let before = Before {
            parked: queued && overtakes.is_none(),
            overtakes,
            action: self.barrier.get(&key(Op::Action)).cloned(),
            compensation: self.barrier.get(&key(Op::Compensate)).cloned(),
        };
        let mark = match admission.phase {
            Phase::Whole => Mark::Done,
            Phase::Start => Mark::Started,
            Phase::Finish | Phase::Look => return before,
        };
        if before.parked {
            return before;
        }
        let row = |mark, effect_key| Row { mark, cause: Some(admission.cause.clone()), effect_key };
        match admission.op {
            Op::Action => {
                self.barrier.entry(key(Op::Action)).or_insert_with(|| row(mark, admission.effect_key));
            }
            Op::Compensate => {
                self.barrier.entry(key(Op::Action)).or_insert_with(|| row(Mark::Null, None));
                self.barrier.entry(key(Op::Compensate)).or_insert_with(|| row(mark, admission.effect_key));
            }
        }
        before
    }

    fn apply(&mut self, changes: Changes, now: Timestamp) -> Committed {
        for change in changes.marks {
            if let Some(row) = self.barrier.get_mut(&(change.saga_id, change.step.to_owned(), change.op)) {
                row.mark = change.mark;
            }
        }
        self.outbox.retain(|_, row| !changes.sent.contains(&row.id));
        for row in changes.outbox {
            self.last_written += 1;
            self.outbox.insert(self.last_written, OutboxRow { created_at: now, ..row });
        }
        self.timers.retain(|(saga, _), _| !changes.disarm.contains(saga));
        for Timer { saga_id, step, after: wait, trace } in changes.arm {
            let timer = DueTimer { saga_id, step: step.to_owned(), due: after(now, wait), trace };
            self.timers.entry((saga_id, step.to_owned())).or_insert(timer);
        }
        changes.park.into_iter().for_each(|change| self.park(change, now));
        let mut committed = Committed::default();
        for Progress { saga_id, at } in changes.begun {
            let (begun, _) = self.progress.entry(saga_id).or_default();
            committed.begun += u64::from(begun.is_none());
            begun.get_or_insert(at);
        }
        for Progress { saga_id, at } in changes.ended {
            let (begun, ended) = self.progress.entry(saga_id).or_default();
            if ended.is_none() {
                *ended = Some(at);
                committed.ended.extend(begun.map(|at| Progress { saga_id, at }));
            }
        }
        committed
    }

    fn park(&mut self, change: ParkChange, now: Timestamp) {
        match change {
            ParkChange::Append(parking) => self.append(parking, now),
            ParkChange::Overtake { seq, by } => {
                self.parked.retain(|_, p| p.saga_id != by.saga_id || p.cause != by.cause);
                self.parked.insert(seq, Parked::new(by, false, now));
            }
            ParkChange::Retry { at, attempts, pause, failed_at, reason: _ } => {
                if let Some(parked) = self.at(at).filter(|parked| !parked.blocked) {
                    (parked.attempts, parked.due, parked.failed_at) =
                        (attempts, Some(after(now, pause)), Some(failed_at));
                }
            }
            ParkChange::Block { at, reason: _ } => {
                if let Some(parked) = self.at(at) {
                    (parked.blocked, parked.due) = (true, None);
                }
            }
            ParkChange::Remove { at } => {
                if self.at(at).is_some() {
                    self.parked.remove(&at.seq);
                    self.promote(at.saga_id);
                }
            }
        }
    }

    fn append(&mut self, parking: Parking, now: Timestamp) {
        let saga_id = parking.saga_id;
        let head = self.parked.iter().find(|(_, p)| p.saga_id == saga_id).map(|(seq, _)| *seq);
        let same = |p: &Parked| p.saga_id == saga_id && p.cause == parking.cause;
        let known = self.parked.iter_mut().find(|(_, parked)| same(parked));
        let place = |r: &Record| (r.topic.clone(), r.partition, r.offset);
        match known {
            Some((_, known)) if place(&known.record) == place(&parking.record) => {}
            Some((seq, known)) => {
                let waits = head != Some(*seq) && known.due.is_none();
                *known = Parked::new(parking, waits, now);
            }
            None => {
                self.last_seq += 1;
                self.parked.insert(self.last_seq, Parked::new(parking, head.is_some(), now));
            }
        }
    }

    fn at(&mut self, at: ParkedAt) -> Option<&mut Parked> {
        self.parked.get_mut(&at.seq).filter(|parked| parked.op == at.op)
    }

    /// What is the head now is due.
    fn promote(&mut self, saga_id: SagaId) {
        if let Some(head) = self.parked.values_mut().find(|p| p.saga_id == saga_id).filter(|p| !p.blocked) {
            head.due.get_or_insert(Timestamp::MIN);
        }
    }

    /// The head of every parked saga.
    fn heads(&self) -> Vec<&Parked> {
        let mut sagas = BTreeSet::new();
        self.parked.values().filter(|p| sagas.insert(p.saga_id)).collect()
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
        // No earlier version has written here.
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
            tx.working.timers.remove(&(timer.saga_id, timer.step.clone()));
        }
        Ok((tx, due))
    }

    async fn postpone(&self, timers: &[DueTimer], wait: Duration) -> Result<(), StoreError> {
        let now = self.clock.now();
        for armed in self.tables.lock().await.timers.values_mut().filter(|armed| timers.contains(armed)) {
            armed.due = after(now, wait);
        }
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        let now = self.clock.now();
        let tables = self.tables.lock().await;
        let heads = tables.parked.values().filter_map(|parked| parked.due);
        let next = heads.chain(tables.timers.values().map(|t| t.due)).min();
        Ok(next.map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default()))
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
            timers: tables.timers.len() as u64,
            unfinished_sagas: unfinished().count() as u64,
            unfinished_oldest: unfinished().min(),
            at: Some(self.clock.now()),
        })
    }
}
