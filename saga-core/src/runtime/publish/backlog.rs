//! What the relay knows of the outbox: what the producer has, what the broker has, and what only a look at the table finds.

use std::{
    collections::{HashMap, HashSet},
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

/// Rows that the producer may have at once, whatever room it has: with the broker away they fill the memory.
const MOST_ROWS: usize = 2_000;
/// And their bytes.
const MOST_BYTES: usize = 4 << 20;
/// So much later than it was to be, the next attempt to publish a refused row has been made.
const REFUSAL_LASTS: Duration = Duration::from_secs(10);
/// Refused rows that are remembered, so as not to be tried again at once.
const MOST_REFUSED: usize = 10_000;

/// The rule is that the producer has at most one row of a saga, which is the earliest one that the broker does not have. So
/// no later row can overtake it, whatever becomes of it: refused for want of room, not acknowledged, or lost with a producer
/// that failed for good.
pub(crate) struct Backlog {
    with_producer: HashMap<SagaId, WithProducer>,
    bytes: usize,
    /// Rows that the broker has, and whether a transaction is just forgetting them.
    acknowledged: HashMap<Uuid, bool>,
    /// Rows that the broker does not take, and when they are tried again.
    refused: HashMap<Uuid, Timestamp>,
    /// Sagas that may have a row in the table that nobody here has in hand. What is committed for them stays there too, until
    /// a walk through the table that began later has passed.
    left: SagaSet,
    /// The same, of the walk that is under way.
    sweeping: SagaSet,
    /// Why the broker did not acknowledge, until it acknowledges.
    trouble: Option<String>,
    /// The row that the broker refused last, why, and how long that is news.
    refusal: Option<(Uuid, String, Timestamp)>,
}

struct WithProducer {
    id: Uuid,
    bytes: usize,
    sending: Sending,
}

impl Backlog {
    /// Nobody knows yet what an earlier process left in the table.
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

    /// The saga's rows are, from this one on, found in the table.
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

    /// The producer or the broker has it, or the broker does not want it.
    fn is_known(&self, id: Uuid, saga_id: SagaId) -> bool {
        self.with_producer.get(&saga_id).is_some_and(|handed| handed.id == id)
            || self.acknowledged.contains_key(&id)
            || self.refused.contains_key(&id)
    }

    /// The producer has it from now on.
    pub(crate) fn handed(&mut self, row: &OutboxRow, now: Timestamp) {
        let bytes = size(row);
        self.bytes += bytes;
        self.with_producer.insert(row.saga_id, WithProducer { id: row.id, bytes, sending: Sending::of(row, now) });
    }

    /// The producer does not have it any more.
    pub(crate) fn returned(&mut self, id: Uuid, saga_id: SagaId) -> Option<Sending> {
        self.with_producer.get(&saga_id).filter(|handed| handed.id == id)?;
        let handed = self.with_producer.remove(&saga_id)?;
        self.bytes -= handed.bytes;
        Some(handed.sending)
    }

    pub(crate) fn acknowledged(&mut self, id: Uuid) {
        self.acknowledged.insert(id, false);
        self.trouble = None;
        self.refusal.take_if(|(refused, ..)| *refused == id);
    }

    /// Says whether that is news.
    pub(crate) fn not_acknowledged(&mut self, why: String) -> bool {
        let news = self.trouble.as_ref() != Some(&why);
        self.trouble = Some(why);
        news
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// The broker will not take it before somebody has mended something: later rows of its saga pass it by.
    pub(crate) fn refused(&mut self, id: Uuid, why: &str, until: Timestamp) {
        self.refusal = Some((id, format!("the broker refuses event {id}: {why}"), after(until, REFUSAL_LASTS)));
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert(id, until);
        }
    }

    /// What the broker refuses, until it takes it or nobody tries any more.
    pub(crate) fn refusal(&mut self, now: Timestamp) -> Option<String> {
        self.refusal.take_if(|(_, _, until)| *until < now);
        self.refusal.as_ref().map(|(_, why, _)| why.clone())
    }

    /// What the broker has, to be forgotten in a transaction. It stays known until that has ended.
    pub(crate) fn take_acknowledged(&mut self) -> Vec<Uuid> {
        let take = |(id, taken): (&Uuid, &mut bool)| (!std::mem::replace(taken, true)).then_some(*id);
        self.acknowledged.iter_mut().filter_map(take).collect()
    }

    /// That transaction did not happen.
    pub(crate) fn put_back(&mut self, ids: &[Uuid]) {
        self.acknowledged.extend(ids.iter().map(|id| (*id, false)));
    }

    /// It did.
    pub(crate) fn forgotten(&mut self, ids: &[Uuid]) {
        for id in ids {
            self.acknowledged.remove(id);
        }
    }

    /// A walk through the table begins: it finds all that was left before.
    pub(crate) fn begin_sweep(&mut self, now: Timestamp) -> Sweep {
        self.refused.retain(|_, until| *until > now);
        // Of another kind each time: whoever shares a bit with a saga that has to wait for long does so once.
        self.sweeping = std::mem::replace(&mut self.left, SagaSet::none());
        Sweep { waiting: SagaSet::like(&self.left), handed: 0, reading: Duration::ZERO }
    }

    /// It ends. When it has not come to the end of the table, what it was for is left again, and all others are.
    pub(crate) fn end_sweep(&mut self, sweep: &Sweep, whole: bool) {
        self.left.add_all(&sweep.waiting);
        if !whole && !self.sweeping.is_empty() {
            self.left.add_everyone();
        }
        self.sweeping.clear();
    }

    /// The rows, among the first of these, that may be handed over now, at most so many; and how many of these were looked at.
    pub(crate) fn choose(&self, places: &[Unsent], most: usize, sweep: &mut Sweep) -> (Vec<Uuid>, usize) {
        let (mut chosen, mut sagas) = (Vec::new(), HashSet::new());
        for (looked_at, place) in places.iter().enumerate() {
            if chosen.len() == most {
                return (chosen, looked_at);
            }
            // A young row that was not left here is on its way, in the hands of whoever committed it.
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

    /// Whether an old row of the saga may be handed over now. What was left after the walk had begun may stand before it.
    pub(crate) fn is_free(&self, saga_id: SagaId) -> bool {
        !self.with_producer.contains_key(&saga_id) && !self.left.has(saga_id)
    }
}

/// A walk through the table, from its beginning to its end.
pub(crate) struct Sweep {
    /// Sagas with a row that could not be handed over: their later rows wait behind it, for the next walk.
    pub(crate) waiting: SagaSet,
    /// How many rows were.
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
