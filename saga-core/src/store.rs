//! What the runtime asks of a participant's database: one local transaction that holds barrier, business data,
//! outbox, parked sagas and timers.

mod parked;
mod refusal;

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    barrier::{Before, Cause, Mark, Op},
    event::SagaId,
    record::OutRecord,
    trace::{Ids, TraceContext},
};

pub use parked::{ParkChange, ParkedAt, ParkedEvent, ParkedLabel, Parking};
pub use refusal::Refusal;

/// A participant's database. A clone is another handle on the same one.
///
/// All writes of [`Store::begin`] and [`Store::commit`], and those that handlers make through [`Store::Tx`], are one
/// transaction under READ COMMITTED or stronger: all of them are durable when `commit` returns `Ok`, or none is.
/// When `commit` fails with [`StoreError::Unavailable`], the result is unknown; a retry finds out through the barrier.
///
/// What is due and when is the database's to say: the runtime hands it durations, since the clocks of two processes differ.
pub trait Store: Clone + Send + Sync + 'static {
    /// An open transaction, as handlers see it. Dropping it rolls back.
    type Tx: Send + 'static;

    /// Opens a transaction and admits these events: writes their barrier rows where there are none, and tells for each what
    /// was there before. Inserts decide, never a select before an insert; rows are taken in the order of (saga, step), so
    /// that two admissions do not deadlock. A commit that appends behind a parked event may wait in a circle with another
    /// transaction; `patience` ends that. No two admissions of a call concern the same saga.
    ///
    /// What is written, unless the saga is parked ([`Before::parked`]):
    ///
    /// | phase | action | compensation |
    /// |---|---|---|
    /// | [`Phase::Whole`] | action row `Done` if absent | action row `Null` if absent; compensation row `Done` if absent |
    /// | [`Phase::Start`] | action row `Started` if absent | action row `Null` if absent; compensation row `Started` if absent |
    /// | [`Phase::Finish`], [`Phase::Look`] | nothing | nothing |
    ///
    /// For a compensation, for `Finish` and for `Look` the action row is locked until the transaction ends, and what is told
    /// about both rows is read after the lock was taken. For a compensation, for `Look` and for what `from_parked` says, the
    /// saga's queue is locked first: nobody else appends to it, removes from it or takes a place in it over.
    ///
    /// A compensation whose own action is parked is not [`Before::parked`]: it overtakes ([`Before::overtakes`]), since the
    /// barrier decides rightly in any order, and what it undoes may stay parked for long.
    ///
    /// Nothing in the transaction waits for another one's lock longer than `patience`: it fails with [`StoreError::Locked`].
    /// Where one transaction writes at a time, there are no such locks, and `patience` says nothing.
    fn begin(
        &self,
        admissions: &[Admission],
        patience: Duration,
    ) -> impl Future<Output = Result<(Self::Tx, Vec<Before>), StoreError>> + Send;

    /// Applies the changes and commits.
    fn commit(&self, tx: Self::Tx, changes: Changes) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// Takes up to `limit` parked sagas whose head event is due, and leases each for `lease`: nobody else gets it before.
    /// Returns the head events. Durable when it returns.
    ///
    /// The outside systems of the steps in `resting` are left alone for now: their actions stay where they are, and so do their
    /// compensations that have been tried already. One that has not may have nothing to undo.
    fn claim_parked(
        &self,
        lease: Duration,
        limit: usize,
        resting: &[&str],
    ) -> impl Future<Output = Result<Vec<ParkedEvent>, StoreError>> + Send;

    /// Up to `limit` parked events that say nothing of their step yet: an earlier version of the framework parked them.
    fn unlabelled_parked(&self, limit: usize) -> impl Future<Output = Result<Vec<ParkedEvent>, StoreError>> + Send;

    /// Says what they are. A compensation that waits behind its own action is due from now on.
    fn label_parked(&self, labels: &[ParkedLabel]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Opens a transaction and takes up to `limit` timers that are due out of the table, oldest first, skipping those that
    /// another transaction holds. Finish it with [`Store::commit`]; dropping the transaction leaves the timers armed.
    /// `patience` as for [`Store::begin`].
    fn begin_due(
        &self,
        limit: usize,
        patience: Duration,
    ) -> impl Future<Output = Result<(Self::Tx, Vec<DueTimer>), StoreError>> + Send;

    /// These timers are due `after` a while, as far as they are still armed as they were.
    fn postpone(&self, timers: &[DueTimer], after: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How long until the next parked head or timer is due, if there is any; zero when it is due already.
    fn next_due(&self) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;

    /// What stands in the outbox behind this place, in the order of writing, at most `limit` rows; `grace` says which of them
    /// are young. 0 is before all. A row whose transaction commits late may appear before one that was seen already, so that
    /// whoever wants them all begins at 0 each time.
    fn unsent(
        &self,
        behind: i64,
        grace: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Unsent>, StoreError>> + Send;

    /// These outbox rows, as far as they are still there, in the order of writing.
    fn outbox(&self, ids: &[Uuid]) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send;

    /// Forgets outbox rows that the broker has acknowledged.
    fn mark_sent(&self, ids: &[Uuid]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The steps that any version of the participant has declared here.
    fn declared_steps(&self) -> impl Future<Output = Result<Vec<DeclaredStep>, StoreError>> + Send;

    /// Adds these to them; one that is known already starts on these events from now on. The others stay. Two processes may
    /// do this at once.
    fn declare_steps(&self, steps: &[DeclaredStep]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How many sagas have barrier rows or parked events under this step's name, up to [`Summary::COUNTED`]. May read all of
    /// the barrier, and is asked only when a step seems to be renamed.
    fn sagas_of_step(&self, step: &str) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Sizes and ages, for metrics; also tells whether the database answers.
    fn summary(&self) -> impl Future<Output = Result<Summary, StoreError>> + Send;
}

/// How much of a step one transaction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// All of it: the step has no effect outside the database.
    Whole,
    /// Records the intent, before the effect is called. A crash in between leaves `Started`, which tells a
    /// compensation that the effect may have happened.
    Start,
    /// Records the end, after the effect was called.
    Finish,
    /// Writes nothing and looks under the lock: before an effect is voided, and before an event that failed is parked.
    Look,
}

/// One event that asks to be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The event.
    pub cause: Cause,
    /// The saga.
    pub saga_id: SagaId,
    /// The step; a compensation names the step that it undoes.
    pub step: &'static str,
    /// Which of the two.
    pub op: Op,
    /// How much of it.
    pub phase: Phase,
    /// What a row that is `Started` here keeps as the key of its effect.
    pub effect_key: Option<Uuid>,
    /// The saga being parked does not stop it: it is the head of the queue, or is about to be put there.
    pub from_parked: bool,
}

/// What a transaction writes when it commits, besides what handlers wrote.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Barrier rows that now say something else.
    pub marks: Vec<MarkChange>,
    /// Events to publish, in order.
    pub outbox: Vec<OutboxRow>,
    /// Outbox rows of earlier transactions that the broker has acknowledged.
    pub sent: Vec<Uuid>,
    /// Parked sagas.
    pub park: Vec<ParkChange>,
    /// Timers to arm; one that is armed already stays as it is.
    pub arm: Vec<Timer>,
    /// Sagas of which all timers are disarmed; applied before `arm`.
    pub disarm: Vec<SagaId>,
    /// Sagas that begin, for this participant, now; one that has begun already is left as it is.
    pub begun: Vec<Progress>,
    /// Sagas that end now; one that has ended already is left as it is. A saga may end before it is seen to begin.
    pub ended: Vec<Progress>,
}

/// When a saga began or ended, as the participant that publishes its end has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The saga.
    pub saga_id: SagaId,
    /// When.
    pub at: Timestamp,
}

/// What a transaction found when it committed.
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
    /// Which of its two rows.
    pub op: Op,
    /// The new state.
    pub mark: Mark,
}

/// An event that is committed but perhaps not yet acknowledged by the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The event's id (`ce_id`).
    pub id: Uuid,
    /// The saga, which is the record's key.
    pub saga_id: SagaId,
    /// The event's type.
    pub event_type: String,
    /// When it was written: by the clock of the process that made it, and once it is stored by the database's.
    pub created_at: Timestamp,
    /// The record.
    pub record: OutRecord,
    /// The span that its publication is told as, whose context is in the record's headers.
    pub span: Option<Ids>,
    /// What led to it besides the saga, for example a request that called the saga off. Not stored.
    pub link: Option<TraceContext>,
}

/// The place of a row in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Its place; grows in the order of writing.
    pub seq: i64,
    /// See [`OutboxRow::id`].
    pub id: Uuid,
    /// The saga.
    pub saga_id: SagaId,
    /// It was written a short while ago, by the database's clock.
    pub young: bool,
}

/// A durable timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The saga that waits.
    pub saga_id: SagaId,
    /// The step that armed it.
    pub step: &'static str,
    /// After which time it fires.
    pub after: Duration,
    /// The W3C trace context of the event that armed it: `traceparent`, then `tracestate`.
    pub trace: TraceContext,
}

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTimer {
    /// The saga that waits.
    pub saga_id: SagaId,
    /// The step that armed it.
    pub step: String,
    /// When it was due, by the database's clock.
    pub due: Timestamp,
    /// See [`Timer::trace`].
    pub trace: TraceContext,
}

/// A step as a participant's database has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredStep {
    /// Its name.
    pub name: String,
    /// The events that start it or its compensation, sorted.
    pub triggers: Vec<String>,
}

/// Sizes and ages of a participant's tables. No size is told beyond [`Summary::COUNTED`], which means so many or more:
/// however large the tables are, somebody asks every few seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Outbox rows not yet marked sent.
    pub outbox_pending: u64,
    /// When the first of them was written.
    pub outbox_oldest: Option<Timestamp>,
    /// Sagas that are parked and will be retried.
    pub parked_sagas: u64,
    /// Sagas whose head was dead-lettered and that wait for an operator.
    pub blocked_sagas: u64,
    /// When the one that has been parked longest failed first; held sagas are not among them.
    pub parked_oldest: Option<Timestamp>,
    /// Timers armed.
    pub timers: u64,
    /// Sagas that have begun and not ended.
    pub unfinished_sagas: u64,
    /// When the oldest of them began.
    pub unfinished_oldest: Option<Timestamp>,
    /// When this was told, by the database's clock.
    pub at: Option<Timestamp>,
}

impl Summary {
    /// Up to here sizes are exact.
    pub const COUNTED: u32 = 10_000;
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is starting or stopping, or is out of something. Handling: wait and try again.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A deadlock or a serialisation failure. Handling: run the transaction again at once.
    #[error("the transaction conflicted with another: {0}")]
    Conflict(String),
    /// Somebody holds a lock on a row that the transaction needs, for longer than it was willing to wait. Concerns the
    /// events that need that row, and is nobody's fault. Handling: try again later; no attempt is used up.
    #[error("a row is locked: {0}")]
    Locked(String),
    /// The statement itself is wrong, or its table is: a defect or a missed migration, whatever an event says. Handling: when
    /// a handler's statement is wrong, its events are parked, use up no attempt and are tried again; when one of the
    /// framework's is, everything waits for somebody to mend it. Nothing is dead-lettered.
    #[error("the database refused the statement: {0}")]
    Broken(String),
    /// The data broke a constraint or a type of the participant's own tables, or what stands there cannot be read as what the
    /// handler takes it for: a defect that concerns this event. Handling: dead letter. Only what a handler's own statement wrote can be rejected: what goes wrong with the framework's tables
    /// is [`StoreError::Broken`].
    #[error("the database refused the data: {0}")]
    Rejected(Refusal),
}
