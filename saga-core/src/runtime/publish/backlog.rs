//! What is known of the outbox in memory: rows with the producer, rows that the broker has, and sagas whose rows only a sweep
//! of the table finds.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::runtime::publish::saga_set::SagaSet;
use crate::{
    clock::after,
    event::SagaId,
    runtime::telemetry::spans::Sending,
    store::{OutboxRow, Unsent},
};

/// How many rows the producer may have at once. While the broker is away they take memory.
const MOST_ROWS: usize = 2_000;
/// How many bytes the producer may have at once.
const MOST_BYTES: usize = 4 << 20;
/// How much later than planned the next attempt to publish a refused row is made at most.
const REFUSAL_LASTS: Duration = Duration::from_secs(10);
/// How many refused rows are remembered, so that they are not tried again at once.
const MOST_REFUSED: usize = 10_000;

/// The producer has at most one row of a saga: the earliest one that the broker does not have. So no later row can overtake
/// it, whether it is refused because a queue is full, is not acknowledged, or is lost with a producer that failed for good.
pub(crate) struct Backlog {
    with_producer: HashMap<SagaId, WithProducer>,
    bytes: usize,
    /// Rows that the broker has, and whether a transaction is deleting them.
    acknowledged: HashMap<Uuid, bool>,
    /// Rows that the broker refused, and when they are tried again.
    refused: HashMap<Uuid, Timestamp>,
    /// Sagas that may have a row in the table that is not known here. What is committed for them stays in the table too, until a
    /// sweep that began later has passed.
    left: SagaSet,
    /// The sagas that the current sweep is for.
    sweeping: SagaSet,
    /// Why the broker did not acknowledge, until it acknowledges.
    trouble: Option<String>,
    /// The row that the broker refused last, why, and until when readiness shows it.
    refusal: Option<(Uuid, String, Timestamp)>,
}

struct WithProducer {
    id: Uuid,
    bytes: usize,
    sending: Sending,
    /// Rows that were committed together with it and follow it.
    behind: VecDeque<OutboxRow>,
}

impl Backlog {
    /// At the start every saga may have a row that an earlier process left in the table.
    pub(crate) fn new() -> Self {
        let left = SagaSet::all();
        let sweeping = SagaSet::none();
        let (with_producer, acknowledged, refused) = <_>::default();
        Self { with_producer, bytes: 0, acknowledged, refused, left, sweeping, trouble: None, refusal: None }
    }

    /// How many more rows the producer may have.
    pub(crate) fn room(&self) -> usize {
        if self.bytes >= MOST_BYTES { 0 } else { MOST_ROWS.saturating_sub(self.with_producer.len()) }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.with_producer.is_empty()
    }

    /// Leaves the saga's rows to the next sweep, from this one on.
    pub(crate) fn leave(&mut self, saga_id: SagaId) {
        self.left.add(saga_id);
    }

    pub(crate) fn leave_everyone(&mut self) {
        self.left.add_everyone();
    }

    pub(crate) fn something_is_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether a row that has just been committed is the earliest of its saga that the broker does not have.
    pub(crate) fn is_next(&self, row: &OutboxRow) -> bool {
        let saga = row.saga_id;
        !self.left.has(saga) && !self.sweeping.has(saga) && !self.with_producer.contains_key(&saga)
    }

    /// Whether the producer or the broker has it, or the broker refused it.
    fn is_known(&self, id: Uuid, saga_id: SagaId) -> bool {
        self.with_producer.get(&saga_id).is_some_and(|handed| handed.id == id)
            || self.acknowledged.contains_key(&id)
            || self.refused.contains_key(&id)
    }

    /// Notes that the producer has it.
    pub(crate) fn handed(&mut self, row: &OutboxRow, now: Timestamp) {
        let bytes = size(row);
        self.bytes += bytes;
        let (id, sending, behind) = (row.id, Sending::of(row, now), VecDeque::new());
        self.with_producer.insert(row.saga_id, WithProducer { id, bytes, sending, behind });
    }

    /// Keeps rows that follow the one of their saga that the producer has. Returns false when it has none.
    pub(crate) fn follow(&mut self, saga_id: SagaId, rows: impl IntoIterator<Item = OutboxRow>) -> bool {
        let Some(handed) = self.with_producer.get_mut(&saga_id) else { return false };
        for row in rows {
            self.bytes += size(&row);
            handed.behind.push_back(row);
        }
        true
    }

    /// Notes that the producer no longer has it. Returns the rows that follow it.
    pub(crate) fn returned(&mut self, id: Uuid, saga_id: SagaId) -> Option<(Sending, VecDeque<OutboxRow>)> {
        self.with_producer.get(&saga_id).filter(|handed| handed.id == id)?;
        let handed = self.with_producer.remove(&saga_id)?;
        self.bytes -= handed.bytes + handed.behind.iter().map(size).sum::<usize>();
        Some((handed.sending, handed.behind))
    }

    pub(crate) fn acknowledged(&mut self, id: Uuid) {
        self.acknowledged.insert(id, false);
        self.trouble = None;
        self.refusal.take_if(|(refused, ..)| *refused == id);
    }

    /// Notes why a row was not acknowledged. Returns whether the reason is a new one.
    pub(crate) fn not_acknowledged(&mut self, why: String) -> bool {
        let news = self.trouble.as_ref() != Some(&why);
        self.trouble = Some(why);
        news
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// Notes that the broker refused a row, which it does until an operator mends the cause. Later rows of its saga overtake it.
    pub(crate) fn refused(&mut self, id: Uuid, why: &str, until: Timestamp) {
        self.refusal = Some((id, format!("the broker refuses event {id}: {why}"), after(until, REFUSAL_LASTS)));
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert(id, until);
        }
    }

    /// The last refusal, until the row is taken or no longer tried.
    pub(crate) fn refusal(&mut self, now: Timestamp) -> Option<String> {
        self.refusal.take_if(|(_, _, until)| *until < now);
        self.refusal.as_ref().map(|(_, why, _)| why.clone())
    }

    /// Takes the acknowledged rows, to be deleted in a transaction. They stay known until it has ended.
    pub(crate) fn take_acknowledged(&mut self) -> Vec<Uuid> {
        let take = |(id, taken): (&Uuid, &mut bool)| (!std::mem::replace(taken, true)).then_some(*id);
        self.acknowledged.iter_mut().filter_map(take).collect()
    }

    /// Notes that this transaction failed.
    pub(crate) fn put_back(&mut self, ids: &[Uuid]) {
        self.acknowledged.extend(ids.iter().map(|id| (*id, false)));
    }

    /// Notes that it committed.
    pub(crate) fn forgotten(&mut self, ids: &[Uuid]) {
        for id in ids {
            self.acknowledged.remove(id);
        }
    }

    /// Begins a sweep of the table. It finds all that was left before.
    pub(crate) fn begin_sweep(&mut self, now: Timestamp) -> Sweep {
        self.refused.retain(|_, until| *until > now);
        // Another hash each time: a saga that shares a bit with one that waits for long does so once.
        self.sweeping = std::mem::replace(&mut self.left, SagaSet::none());
        Sweep { waiting: SagaSet::like(&self.left), handed: 0, reading: Duration::ZERO }
    }

    /// Ends a sweep. When it has not come to the end of the table, all sagas are left to the next one.
    pub(crate) fn end_sweep(&mut self, sweep: &Sweep, whole: bool) {
        self.left.add_all(&sweep.waiting);
        if !whole && !self.sweeping.is_empty() {
            self.left.add_everyone();
        }
        self.sweeping.clear();
    }

    /// Chooses the first rows that may be handed over now, `most` at most. Returns them, and how many rows were examined.
    pub(crate) fn choose(&self, places: &[Unsent], most: usize, sweep: &mut Sweep) -> (Vec<Uuid>, usize) {
        let (mut chosen, mut sagas) = (Vec::new(), HashSet::new());
        for (examined, place) in places.iter().enumerate() {
            if chosen.len() == most {
                return (chosen, examined);
            }
            // A young row that was not left here is being published by the process that committed it.
            let others = place.young && !self.sweeping.has(place.saga_id);
            if others || self.is_known(place.id, place.saga_id) {
                continue;
            }
            if sweep.waiting.has(place.saga_id) || sagas.contains(&place.saga_id) || !self.is_free(place.saga_id) {
                sweep.waiting.add(place.saga_id);
                continue;
            }
            chosen.push(place.id);
            sagas.insert(place.saga_id);
        }
        (chosen, places.len())
    }

    /// Whether a row of the saga may be handed over now. A row that was left after the sweep began may be before it.
    pub(crate) fn is_free(&self, saga_id: SagaId) -> bool {
        !self.with_producer.contains_key(&saga_id) && !self.left.has(saga_id)
    }
}

/// A sweep of the table, from its beginning to its end.
pub(crate) struct Sweep {
    /// Sagas with a row that could not be handed over. Their later rows wait for the next sweep.
    pub(crate) waiting: SagaSet,
    /// How many rows were handed over.
    pub(crate) handed: usize,
    /// How long the database took.
    pub(crate) reading: Duration,
}

impl Sweep {
    pub(crate) fn read_since(&mut self, began: Timestamp, now: Timestamp) {
        self.reading += Duration::try_from(now.duration_since(began)).unwrap_or_default();
    }
}

fn size(row: &OutboxRow) -> usize {
    let record = &row.record;
    let headers = record.headers.iter().map(|header| header.name.len() + header.value.as_ref().map_or(0, Vec::len));
    headers.sum::<usize>() + record.value.as_ref().map_or(0, Vec::len) + record.topic.len()
}
