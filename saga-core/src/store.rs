//! The interface between the runtime and a participant's database: one local transaction that holds barrier, business
//! data, outbox, parked sagas and timers.

mod failed;
mod parked;
mod refusal;
mod timer;

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    barrier::{Arrival, Before, Cause, Mark, Op},
    event::SagaId,
    record::OutRecord,
    trace::{Ids, TraceContext},
};

pub use failed::FailedCompensation;
pub use parked::{ParkChange, ParkedAt, ParkedEvent, ParkedLabel, Parking};
pub use refusal::Refusal;
pub use timer::{Disarm, DueTimer, Timer, TimerKind};

/// A participant's database. A clone is another handle to the same database.
///
/// All writes of [`Store::begin`] and [`Store::commit`], and those that handlers make through [`Store::Tx`], are one
/// transaction under READ COMMITTED or stronger: all of them are durable when `commit` returns `Ok`, or none is. When
/// `commit` fails with [`StoreError::Unavailable`], the result is unknown; a retry learns it from the barrier.
///
/// The database's clock decides what is due: the runtime passes durations, since the clocks of two processes differ.
pub trait Store: Clone + Send + Sync + 'static {
    /// An open transaction, as handlers see it. Dropping it rolls back.
    type Tx: Send + 'static;

    /// Opens a transaction and admits these events: writes the barrier rows that are absent, and returns for each event
    /// what was there before. The insert decides; a select before it would race. Rows are written in the order of
    /// (saga, step), so that two admissions do not deadlock. A commit that appends behind a parked event may wait in a
    /// cycle with another transaction; `patience` ends that. The caller passes at most one admission of a saga.
    ///
    /// What is written, unless the saga is parked ([`Before::parked`]):
    ///
    /// | phase | action | compensation |
    /// |---|---|---|
    /// | [`Phase::Whole`] | action row `Done` if absent | action row `Null` if absent; compensation row `Done` if absent |
    /// | [`Phase::Start`] | action row `Started` if absent | action row `Null` if absent; compensation row `Started` if absent |
    /// | [`Phase::Finish`], [`Phase::Recheck`] | nothing | nothing |
    ///
    /// A part of a join ([`Admission::joins`]) writes its own row as `Waiting`, in place of `Done` and `Started`, and without a key.
    ///
    /// For a compensation, for a part of a join, for `Finish` and for `Recheck`, the action row is locked until the transaction
    /// ends, and both rows and the join's arrivals are read after the lock was taken, in a later statement: two parts may arrive
    /// in two processes at once, and the second one has to see the first. For a compensation, for `Recheck` and where `from_parked` is set,
    /// the saga's queue is locked first: no other transaction appends to it, removes from it or takes over a position
    /// in it.
    ///
    /// Events that stand aside ([`Parking::aside`]) park no saga.
    ///
    /// A compensation whose own action is parked is not [`Before::parked`]: it overtakes the action
    /// ([`Before::overtakes`]), since the barrier decides rightly in any order and the action may stay parked for long.
    ///
    /// No statement of the transaction waits longer than `patience` for a lock of another transaction: it fails with
    /// [`StoreError::Locked`]. A database with a single writer has no such locks and ignores `patience`.
    fn begin(
        &self,
        admissions: &[Admission],
        patience: Duration,
    ) -> impl Future<Output = Result<(Self::Tx, Vec<Before>), StoreError>> + Send;

    /// Applies the changes and commits.
    fn commit(&self, tx: Self::Tx, changes: Changes) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// Takes up to `limit` parked sagas whose head event is due, and leases each for `lease`: no other process gets it
    /// before the lease ends. Returns the head events. Durable when it returns.
    ///
    /// For the steps in `resting`, whose circuit breaker is open, actions are not taken, and neither are compensations
    /// that were tried before. A compensation that was never tried is taken, because it may have nothing to compensate.
    fn claim_parked(
        &self,
        lease: Duration,
        limit: usize,
        resting: &[&str],
    ) -> impl Future<Output = Result<Vec<ParkedEvent>, StoreError>> + Send;

    /// Up to `limit` parked events whose step is not stored: an earlier version of the framework parked them.
    fn unlabelled_parked(&self, limit: usize) -> impl Future<Output = Result<Vec<ParkedEvent>, StoreError>> + Send;

    /// Stores their steps. A compensation that waits behind its own action is due from now on.
    fn label_parked(&self, labels: &[ParkedLabel]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Opens a transaction and takes up to `limit` due timers out of the table, oldest first, skipping those that
    /// another transaction has locked. Finish it with [`Store::commit`]; dropping the transaction leaves the timers
    /// armed. `patience` as for [`Store::begin`].
    fn begin_due(
        &self,
        limit: usize,
        patience: Duration,
    ) -> impl Future<Output = Result<(Self::Tx, Vec<DueTimer>), StoreError>> + Send;

    /// Locks the action rows of these steps until the transaction ends, in the order of (saga, step), and returns what each is,
    /// read after the lock was taken: the timer of a join and its last arrival meet there. The steps are distinct.
    fn lock_steps(
        &self,
        tx: &mut Self::Tx,
        steps: &[(SagaId, &str)],
    ) -> impl Future<Output = Result<Vec<LockedStep>, StoreError>> + Send;

    /// Makes these timers due after the given delay, unless they were disarmed or armed anew meanwhile.
    fn postpone(&self, timers: &[DueTimer], after: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The outbox rows after this position, in the order of writing, at most `limit`; rows younger than `grace` are
    /// marked young. Position 0 is before all rows. A row whose transaction commits late may appear before a row that
    /// was returned already, so a complete sweep begins at 0 each time.
    fn unsent(
        &self,
        behind: i64,
        grace: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Unsent>, StoreError>> + Send;

    /// Those of these outbox rows that are still there, in the order of writing.
    fn outbox(&self, ids: &[Uuid]) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send;

    /// Deletes outbox rows that the broker has acknowledged.
    fn mark_sent(&self, ids: &[Uuid]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The steps that any version of the participant has declared here.
    fn declared_steps(&self) -> impl Future<Output = Result<Vec<DeclaredStep>, StoreError>> + Send;

    /// Adds these to them; one that is known already starts on these events from now on. The others stay. Two processes may
    /// do this at once.
    fn declare_steps(&self, steps: &[DeclaredStep]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How many sagas have barrier rows or parked events under this step's name, up to [`Summary::COUNTED`]. May read all of
    /// the barrier, and is asked only when a step seems to be renamed.
    fn sagas_of_step(&self, step: &str) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Sizes and ages, for metrics. An error means that the database does not answer.
    fn summary(&self) -> impl Future<Output = Result<Summary, StoreError>> + Send;
}

/// The action of a step whose row is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockedStep {
    /// The mark of its row; none without a row.
    pub mark: Option<Mark>,
    /// Whether an event that has arrived for it follows from a compensation that failed for good.
    pub partly_compensated: bool,
    /// Whether the saga has ended at this participant.
    pub ended: bool,
}

/// The part of a step that one transaction carries out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// All of it: the step has no effect outside the database.
    Whole,
    /// Records the intent before the effect is called. A crash before the result is recorded leaves `Started`, from
    /// which a compensation learns that the effect may have happened.
    Start,
    /// Records the result after the effect was called.
    Finish,
    /// Writes nothing and reads under the lock: before an effect is voided, and before a failed event is parked.
    Recheck,
}

/// One event to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The event.
    pub cause: Cause,
    /// The saga.
    pub saga_id: SagaId,
    /// The step; for a compensation, the step that it compensates.
    pub step: &'static str,
    /// Action or compensation.
    pub op: Op,
    /// The part of the step that the transaction carries out.
    pub phase: Phase,
    /// The idempotency key of the effect, stored in a row that this admission marks `Started`.
    pub effect_key: Option<Uuid>,
    /// The event is a part of a join: its half of the step has several.
    pub joins: bool,
    /// The step may run in rounds: the saga's queue is locked, since a round that follows is kept there.
    pub rounds: bool,
    /// The event is admitted although its saga is parked: it is the head of the queue, or is about to become the head.
    pub from_parked: bool,
}

/// What a transaction writes at its commit, in addition to the handlers' own writes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Barrier rows with a new state.
    pub marks: Vec<MarkChange>,
    /// Parts of joins that have arrived. One whose event type has arrived for the same half of the step stays as it is.
    pub arrivals: Vec<NewArrival>,
    /// Sagas that end, whose joins that wait are closed; applied after `marks`.
    pub close: Vec<SagaId>,
    /// Events to publish, in order.
    pub outbox: Vec<OutboxRow>,
    /// Outbox rows of earlier transactions that the broker has acknowledged.
    pub sent: Vec<Uuid>,
    /// Compensations that failed for good, and without which their sagas go on. One that is stored already stays as it is.
    pub failed: Vec<FailedCompensation>,
    /// Parked sagas.
    pub park: Vec<ParkChange>,
    /// Timers to arm; a timer that is armed already stays as it is. One that waits for the end of a saga
    /// ([`TimerKind::Saga`]) is not armed when the saga's end is recorded already.
    pub arm: Vec<Timer>,
    /// Timers to disarm; applied before `arm`. A timer that is firing at this moment is left to its handler.
    pub disarm: Vec<Disarm>,
    /// Sagas that begin now, for this participant; a saga that has begun already is left as it is.
    pub begun: Vec<Progress>,
    /// Sagas that end now; a saga that has ended already is left as it is. The end of a saga may be recorded before its
    /// beginning.
    pub ended: Vec<Progress>,
}

/// When a saga began or ended, as observed by the participant that publishes its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The saga.
    pub saga_id: SagaId,
    /// The time.
    pub at: Timestamp,
}

/// The result of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// How many of [`Changes::begun`] had not begun before.
    pub begun: u64,
    /// Those of [`Changes::ended`] that had begun and not ended before, with the time at which they began.
    pub ended: Vec<Progress>,
}

/// A new state of an existing barrier row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkChange {
    /// The saga.
    pub saga_id: SagaId,
    /// The step.
    pub step: &'static str,
    /// Action or compensation.
    pub op: Op,
    /// The new state.
    pub mark: Mark,
    /// The idempotency key of the row's effect; none leaves the row's own.
    pub effect_key: Option<Uuid>,
    /// The round that the row enters: the one to come with [`Mark::Again`], the one whose effect is about to be called with
    /// [`Mark::Started`]. None leaves the row's own.
    pub round: Option<u32>,
}

/// A part of a join, to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewArrival {
    /// The saga.
    pub saga_id: SagaId,
    /// The step.
    pub step: &'static str,
    /// Action or compensation.
    pub op: Op,
    /// What has arrived.
    pub arrival: Arrival,
    /// The join has ended with it: the data of all its arrivals is dropped.
    pub is_last: bool,
}

/// An event that is committed and perhaps not yet acknowledged by the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The event's id (`ce_id`).
    pub id: Uuid,
    /// The saga id, which is the record's key.
    pub saga_id: SagaId,
    /// The event's type.
    pub event_type: String,
    /// When it was written: by the clock of the process that made it, and by the database's clock once it is stored.
    pub created_at: Timestamp,
    /// The record.
    pub record: OutRecord,
    /// The span of its publication, whose context is in the record's headers.
    pub span: Option<Ids>,
    /// A further cause besides the saga's own trace, for example a request that cancelled the saga. Not stored.
    pub link: Option<TraceContext>,
}

/// The position of a row in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Its position; grows in the order of writing.
    pub seq: i64,
    /// See [`OutboxRow::id`].
    pub id: Uuid,
    /// The saga.
    pub saga_id: SagaId,
    /// Whether it is younger than `grace`, by the database's clock.
    pub young: bool,
}

/// A step as a participant's database has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredStep {
    /// Its name.
    pub name: String,
    /// The events that start it or its compensation, sorted.
    pub triggers: Vec<String>,
}

/// Sizes and ages of a participant's tables. Counting stops at [`Summary::COUNTED`], which means that many or more,
/// because the runtime asks every few seconds and the tables may be large.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Outbox rows that are not acknowledged yet.
    pub outbox_pending: u64,
    /// When the oldest of them was written.
    pub outbox_oldest: Option<Timestamp>,
    /// Sagas that are parked and will be retried.
    pub parked_sagas: u64,
    /// Sagas that are blocked by a dead letter and wait for an operator.
    pub blocked_sagas: u64,
    /// When the saga that has been parked longest failed first; blocked sagas are not included.
    pub parked_oldest: Option<Timestamp>,
    /// Compensations that failed for good, and without which their sagas went on ([`Changes::failed`]).
    pub failed_compensations: u64,
    /// Timers armed.
    pub timers: u64,
    /// Sagas that have begun and not ended.
    pub unfinished_sagas: u64,
    /// When the oldest of them began.
    pub unfinished_oldest: Option<Timestamp>,
    /// The time of this summary, by the database's clock.
    pub at: Option<Timestamp>,
}

impl Summary {
    /// Sizes below this are exact.
    pub const COUNTED: u32 = 10_000;
}

/// Why a database operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is starting or stopping, or is out of a resource. Handling: wait and try again.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A deadlock or a serialisation failure. Handling: run the transaction again at once.
    #[error("the transaction conflicted with another: {0}")]
    Conflict(String),
    /// Another transaction holds a lock on a row for longer than `patience`. Concerns the events that need that row,
    /// and does not depend on their content. Handling: try again later; no attempt is used up.
    #[error("a row is locked: {0}")]
    Locked(String),
    /// The statement or its table is wrong, whatever the event: a defect or a missing migration. Handling: for a
    /// handler's statement, its events are parked, use up no attempt and are tried again. For a statement of the
    /// framework, the participant waits until the database is repaired. Nothing is dead-lettered.
    #[error("the database refused the statement: {0}")]
    Broken(String),
    /// The data broke a constraint or a type of the participant's own tables, or a stored value does not have the type
    /// that the handler reads: a defect that concerns this event. Handling: dead letter. Only a handler's own statement
    /// can be rejected; failures of the framework's tables are [`StoreError::Broken`].
    #[error("the database refused the data: {0}")]
    Rejected(Refusal),
}
