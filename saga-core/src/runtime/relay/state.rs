//! What the relay knows of the outbox: what the producer has, what the broker has, and what only a look at the table finds.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use super::sagas::Sagas;
use crate::{
    clock::after,
    event::SagaId,
    runtime::spans::Sending,
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
pub(super) struct State {
    with_producer: HashMap<SagaId, Handed>,
    bytes: usize,
    /// Rows that the broker has, and whether a transaction is just forgetting them.
    acknowledged: HashMap<Uuid, bool>,
    /// Rows that the broker does not take, and when they are tried again.
    refused: HashMap<Uuid, Timestamp>,
    /// Sagas that may have a row in the table that nobody here has in hand. What is committed for them stays there too, until
    /// a walk through the table that began later has passed.
    left: Sagas,
    /// The same, of the walk that is under way.
    walking: Sagas,
    /// Why the broker did not acknowledge, until it acknowledges.
    trouble: Option<String>,
    /// The row that the broker refused last, why, and how long that is news.
    refusal: Option<(Uuid, String, Timestamp)>,
}

struct Handed {
    id: Uuid,
    bytes: usize,
    sending: Sending,
}

impl State {
    /// Nobody knows yet what an earlier process left in the table.
    pub(super) fn new() -> Self {
        let left = Sagas::all();
        let walking = Sagas::none();
        let (with_producer, acknowledged, refused) = <_>::default();
        Self { with_producer, bytes: 0, acknowledged, refused, left, walking, trouble: None, refusal: None }
    }

    /// How many more rows the producer may have.
    pub(super) fn room(&self) -> usize {
        if self.bytes >= MOST_BYTES { 0 } else { MOST_ROWS.saturating_sub(self.with_producer.len()) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.with_producer.is_empty()
    }

    /// The saga's rows are, from this one on, found in the table.
    pub(super) fn leave(&mut self, saga_id: SagaId) {
        self.left.add(saga_id);
    }

    pub(super) fn leave_everyone(&mut self) {
        self.left.add_everyone();
    }

    pub(super) fn something_is_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether a row that has just been committed is the earliest of its saga that the broker does not have.
    pub(super) fn is_next(&self, row: &OutboxRow) -> bool {
        let saga = row.saga_id;
        !self.left.has(saga) && !self.walking.has(saga) && !self.with_producer.contains_key(&saga)
    }

    /// The producer or the broker has it, or the broker does not want it.
    fn is_known(&self, id: Uuid, saga_id: SagaId) -> bool {
        self.with_producer.get(&saga_id).is_some_and(|handed| handed.id == id)
            || self.acknowledged.contains_key(&id)
            || self.refused.contains_key(&id)
    }

    /// The producer has it from now on.
    pub(super) fn handed(&mut self, row: &OutboxRow, now: Timestamp) {
        let bytes = size(row);
        self.bytes += bytes;
        self.with_producer.insert(row.saga_id, Handed { id: row.id, bytes, sending: Sending::of(row, now) });
    }

    /// The producer does not have it any more.
    pub(super) fn returned(&mut self, id: Uuid, saga_id: SagaId) -> Option<Sending> {
        self.with_producer.get(&saga_id).filter(|handed| handed.id == id)?;
        let handed = self.with_producer.remove(&saga_id)?;
        self.bytes -= handed.bytes;
        Some(handed.sending)
    }

    pub(super) fn acknowledged(&mut self, id: Uuid) {
        self.acknowledged.insert(id, false);
        self.trouble = None;
        self.refusal.take_if(|(refused, ..)| *refused == id);
    }

    /// Says whether that is news.
    pub(super) fn not_acknowledged(&mut self, why: String) -> bool {
        let news = self.trouble.as_ref() != Some(&why);
        self.trouble = Some(why);
        news
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// The broker will not take it before somebody has mended something: later rows of its saga pass it by.
    pub(super) fn refused(&mut self, id: Uuid, why: &str, until: Timestamp) {
        self.refusal = Some((id, format!("the broker refuses event {id}: {why}"), after(until, REFUSAL_LASTS)));
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert(id, until);
        }
    }

    /// What the broker refuses, until it takes it or nobody tries any more.
    pub(super) fn refusal(&mut self, now: Timestamp) -> Option<String> {
        self.refusal.take_if(|(_, _, until)| *until < now);
        self.refusal.as_ref().map(|(_, why, _)| why.clone())
    }

    /// What the broker has, to be forgotten in a transaction. It stays known until that has ended.
    pub(super) fn take_acknowledged(&mut self) -> Vec<Uuid> {
        let take = |(id, taken): (&Uuid, &mut bool)| (!std::mem::replace(taken, true)).then_some(*id);
        self.acknowledged.iter_mut().filter_map(take).collect()
    }

    /// That transaction did not happen.
    pub(super) fn put_back(&mut self, ids: &[Uuid]) {
        self.acknowledged.extend(ids.iter().map(|id| (*id, false)));
    }

    /// It did.
    pub(super) fn forgotten(&mut self, ids: &[Uuid]) {
        for id in ids {
            self.acknowledged.remove(id);
        }
    }

    /// A walk through the table begins: it finds all that was left before.
    pub(super) fn begin_walk(&mut self, now: Timestamp) -> Walk {
        self.refused.retain(|_, until| *until > now);
        // Of another kind each time: whoever shares a bit with a saga that has to wait for long does so once.
        self.walking = std::mem::replace(&mut self.left, Sagas::none());
        Walk { waiting: Sagas::like(&self.left), handed: 0, reading: Duration::ZERO }
    }

    /// It ends. When it has not come to the end of the table, what it was for is left again, and all others are.
    pub(super) fn end_walk(&mut self, walk: &Walk, whole: bool) {
        self.left.add_all(&walk.waiting);
        if !whole && !self.walking.is_empty() {
            self.left.add_everyone();
        }
        self.walking.clear();
    }

    /// The rows, among the first of these, that may be handed over now, at most so many; and how many of these were looked at.
    pub(super) fn choose(&self, places: &[Unsent], most: usize, walk: &mut Walk) -> (Vec<Uuid>, usize) {
        let (mut chosen, mut sagas) = (Vec::new(), HashSet::new());
        for (looked_at, place) in places.iter().enumerate() {
            if chosen.len() == most {
                return (chosen, looked_at);
            }
            // A young row that was not left here is on its way, in the hands of whoever committed it.
            let others = place.young && !self.walking.has(place.saga_id);
            if others || self.is_known(place.id, place.saga_id) {
                continue;
            }
            if walk.waiting.has(place.saga_id) || sagas.contains(&place.saga_id) || !self.is_free(place.saga_id) {
                walk.waiting.add(place.saga_id);
                continue;
            }
            chosen.push(place.id);
            sagas.insert(place.saga_id);
        }
        (chosen, places.len())
    }

    /// Whether an old row of the saga may be handed over now. What was left after the walk had begun may stand before it.
    pub(super) fn is_free(&self, saga_id: SagaId) -> bool {
        !self.with_producer.contains_key(&saga_id) && !self.left.has(saga_id)
    }
}

/// A walk through the table, from its beginning to its end.
pub(super) struct Walk {
    /// Sagas with a row that could not be handed over: their later rows wait behind it, for the next walk.
    pub(super) waiting: Sagas,
    /// How many rows were.
    pub(super) handed: usize,
    /// How long the database took.
    pub(super) reading: Duration,
}

impl Walk {
    pub(super) fn read_since(&mut self, began: Timestamp, now: Timestamp) {
        self.reading += Duration::try_from(now.duration_since(began)).unwrap_or_default();
    }
}

fn size(row: &OutboxRow) -> usize {
    let record = &row.record;
    let headers = record.headers.iter().map(|header| header.name.len() + header.value.as_ref().map_or(0, Vec::len));
    headers.sum::<usize>() + record.value.as_ref().map_or(0, Vec::len) + record.topic.len()
}
