//! The books of `saga watch`: which sagas are under way, and how they stand, folded from records.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use saga_core::graph::{Choreography, Progress};
use serde::Serialize;
use uuid::Uuid;

use super::{
    recent::Recent,
    standing::{NodeIndex, Standings},
};
use crate::{
    event::Event,
    letter::Letter,
    origin::declared,
    seen::{Seen, What},
};

/// A saga that goes on at all does so within its deadline; more is for deadlines that are set longer than declared.
const DEADLINES: u32 = 3;
/// Of a flow that declares none.
const USUAL_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How much is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    /// Sagas under way.
    pub(crate) unfinished: usize,
    /// Sagas that have ended, lest a late duplicate counts again.
    pub(crate) ended: usize,
}

/// What was counted so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct Totals {
    pub(crate) started: u64,
    pub(crate) finished: u64,
    pub(crate) dead_letters: u64,
    /// Records that are no events.
    pub(crate) unreadable: u64,
    /// Events of types, or in versions, that no participant declares.
    pub(crate) foreign: u64,
    /// Sagas with such events, and without a start that the flow knows.
    pub(crate) of_other_flows: u64,
    /// Records of sagas that there was no room for.
    pub(crate) untracked: u64,
    /// Sagas whose start was not seen, and of which nothing was heard any more.
    pub(crate) forgotten: u64,
    /// Sagas with both ends, which must never happen.
    pub(crate) contradictory: u64,
}

#[derive(Debug)]
struct Saga {
    standing: usize,
    is_started: bool,
    first: Timestamp,
    last: Timestamp,
    /// By the clock of the books.
    heard: Timestamp,
    /// The nodes that gave up on it, and why.
    given_up: Vec<(NodeIndex, Box<str>)>,
}

/// A saga that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UnderWay<'a> {
    pub(crate) id: Uuid,
    pub(crate) since: Timestamp,
    /// Since its last event.
    pub(crate) waits_since: Timestamp,
    /// None when nobody's turn follows from what was seen.
    pub(crate) waits_for: Option<NodeIndex>,
    pub(crate) given_up: Option<&'a str>,
}

/// The sagas that wait for the same node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Queue {
    pub(crate) waits_for: Option<NodeIndex>,
    pub(crate) sagas: usize,
    pub(crate) given_up: usize,
    pub(crate) oldest: Timestamp,
}

/// The books.
pub(crate) struct Ledger {
    standings: Standings,
    room: Room,
    sagas: HashMap<Uuid, Saga>,
    /// How far the records have come, by when they were written: what they say of themselves (`ce_time`) may be anything.
    clock: Timestamp,
    /// Those whose start was not seen, and when something was heard of them: late events of sagas that have ended are
    /// among them.
    strangers: BTreeSet<(Timestamp, Uuid)>,
    patience: SignedDuration,
    /// Sagas of other flows.
    others: Recent,
    ended: HashMap<Uuid, &'static str>,
    /// In the order of their ends.
    ended_order: VecDeque<Uuid>,
    totals: Totals,
    endings: BTreeMap<&'static str, u64>,
}

impl Ledger {
    pub(crate) fn new(flow: &Choreography, room: Room) -> Self {
        let ends = flow.events().filter(|(_, node)| node.end.is_some()).map(|(key, _)| (key.name, 0)).collect();
        let deadlines = flow.declarations().iter().flat_map(|participant| &participant.steps);
        let deadline = deadlines.filter_map(|step| step.deadline.as_ref()).map(|deadline| deadline.after).max();
        let patience = deadline.unwrap_or(USUAL_DEADLINE).saturating_mul(DEADLINES);
        Self {
            standings: Standings::of(flow),
            room,
            sagas: HashMap::new(),
            clock: Timestamp::UNIX_EPOCH,
            strangers: BTreeSet::new(),
            patience: patience.try_into().unwrap_or(SignedDuration::MAX),
            others: Recent::new(room.ended),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            totals: Totals::default(),
            endings: ends,
        }
    }

    pub(crate) fn flow(&self) -> &Choreography {
        self.standings.flow()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn room(&self) -> Room {
        self.room
    }

    /// A saga whose start was not seen is forgotten when nothing was heard of it for so long.
    pub(crate) fn patience(&self) -> SignedDuration {
        self.patience
    }

    /// It is so late now: whatever was written before has been added.
    pub(crate) fn pass(&mut self, now: Timestamp) {
        self.clock = self.clock.max(now);
        while let Some((heard, id)) = self.strangers.first().copied()
            && self.clock.duration_since(heard) > self.patience
        {
            self.strangers.pop_first();
            // Of what is held until an operator decides nothing more is heard, and it is no less there.
            let is_held = self.sagas.get(&id).is_some_and(|saga| self.view(id, saga).given_up.is_some());
            if !is_held && self.sagas.remove(&id).is_some() {
                self.totals.forgotten += 1;
            }
        }
    }

    /// How many sagas ended in each way.
    pub(crate) fn endings(&self) -> &BTreeMap<&'static str, u64> {
        &self.endings
    }

    pub(crate) fn add(&mut self, seen: &Seen) {
        match &seen.what {
            What::Event(event) => self.event(event, seen.at()),
            What::Letter(letter) => self.letter(letter, seen.saga, seen.at()),
            What::Unreadable { .. } => self.totals.unreadable += 1,
        }
    }

    fn event(&mut self, event: &Event, at: Timestamp) {
        let Some(key) = declared(self.standings.flow(), event) else {
            self.totals.foreign += 1;
            return self.foreign(event.saga);
        };
        let ends = self.standings.flow().end(key).is_some();
        if let Some(end) = self.ended.get_mut(&event.saga) {
            if ends && *end != key.name {
                *end = key.name;
                self.totals.contradictory += 1;
            }
            return;
        }
        let is_start = self.standings.flow().entrances().contains(&key);
        if !is_start && self.others.contains(&event.saga) {
            return;
        }
        if is_start && self.others.forget(event.saga) {
            // A newer participant has come before its start: the topics have no order among them.
            self.totals.of_other_flows -= 1;
        }
        let Some(saga) = room_for(&mut self.sagas, self.room, event.saga, at) else {
            // Its end needs no room.
            if ends {
                self.end(event.saga, key.name);
            } else {
                self.totals.untracked += 1;
            }
            return;
        };
        saga.first = saga.first.min(at);
        saga.last = saga.last.max(at);
        saga.standing = self.standings.after(saga.standing, key);
        if is_start && !saga.is_started {
            saga.is_started = true;
            self.totals.started += 1;
        }
        note(&mut self.strangers, event.saga, saga, self.clock);
        let progress = self.standings.get(saga.standing).progress;
        if !matches!(progress, Progress::Forward | Progress::Backward) {
            self.end(event.saga, key.name);
        }
    }

    /// The saga has an event that the flow does not know. Without a start that the flow knows it is another flow's, where
    /// events and participants may have the same names: nothing is said of it.
    fn foreign(&mut self, saga: Uuid) {
        if self.ended.contains_key(&saga) || self.sagas.get(&saga).is_some_and(|known| known.is_started) {
            return;
        }
        if let Some(known) = self.sagas.remove(&saga) {
            self.strangers.remove(&(known.heard, saga));
        }
        self.totals.of_other_flows += u64::from(self.others.note(saga));
    }

    fn end(&mut self, saga: Uuid, by: &'static str) {
        if let Some(known) = self.sagas.remove(&saga) {
            self.strangers.remove(&(known.heard, saga));
        }
        self.totals.finished += 1;
        *self.endings.entry(by).or_default() += 1;
        self.ended.insert(saga, by);
        self.ended_order.push_back(saga);
        while self.ended_order.len() > self.room.ended {
            if let Some(forgotten) = self.ended_order.pop_front() {
                self.ended.remove(&forgotten);
            }
        }
    }

    fn letter(&mut self, letter: &Letter, saga: Option<Uuid>, at: Timestamp) {
        self.totals.dead_letters += 1;
        let (Some(event), Some(id)) = (&letter.event, saga) else { return };
        let flow = self.standings.flow();
        let is_over = self.ended.contains_key(&id) || self.others.contains(&id);
        if declared(flow, event).is_none() || is_over {
            return;
        }
        let consumes = |node: &saga_core::graph::Node| node.triggers.iter().any(|trigger| trigger.name == event.kind);
        let nodes = flow.nodes().iter().enumerate();
        let gave_up = nodes.filter(|(_, node)| letter.is_of(node.participant) && consumes(node));
        let places: Vec<NodeIndex> = gave_up.map(|(place, _)| place).collect();
        let Some(saga) = room_for(&mut self.sagas, self.room, id, event.at.min(at)) else {
            self.totals.untracked += 1;
            return;
        };
        saga.given_up.retain(|(place, _)| !places.contains(place));
        saga.given_up.extend(places.into_iter().map(|place| (place, letter.reason.as_str().into())));
        note(&mut self.strangers, id, saga, self.clock);
    }

    pub(crate) fn under_way(&self) -> usize {
        self.sagas.len()
    }

    /// What is unfinished, the oldest first; no more than so many.
    pub(crate) fn oldest(&self, most: usize) -> Vec<UnderWay<'_>> {
        let mut all: Vec<(&Uuid, &Saga)> = self.sagas.iter().collect();
        let by_age = |(id, saga): &(&Uuid, &Saga)| (saga.first, **id);
        if all.len() > most {
            all.select_nth_unstable_by_key(most, by_age);
            all.truncate(most);
        }
        all.sort_unstable_by_key(by_age);
        all.into_iter().map(|(id, saga)| self.view(*id, saga)).collect()
    }

    fn view<'a>(&self, id: Uuid, saga: &'a Saga) -> UnderWay<'a> {
        let awaited = &self.standings.get(saga.standing).awaited;
        // What will not come by itself is what the saga waits for.
        let stuck = saga.given_up.iter().rfind(|(place, _)| awaited.contains(place));
        UnderWay {
            id,
            since: saga.first,
            waits_since: saga.last,
            waits_for: stuck.map(|(place, _)| *place).or(awaited.first().copied()),
            given_up: stuck.map(|(_, reason)| &**reason),
        }
    }

    /// The sagas that are under way, by what they wait for: every node that may be waited for, in the order of the
    /// participants, and nobody's turn last.
    pub(crate) fn queues(&self) -> Vec<Queue> {
        let mut queues: BTreeMap<(bool, NodeIndex), Queue> = BTreeMap::new();
        for (id, saga) in &self.sagas {
            let saga = self.view(*id, saga);
            let key = (saga.waits_for.is_none(), saga.waits_for.unwrap_or_default());
            let new = Queue { waits_for: saga.waits_for, sagas: 0, given_up: 0, oldest: saga.waits_since };
            let queue = queues.entry(key).or_insert(new);
            queue.sagas += 1;
            queue.given_up += usize::from(saga.given_up.is_some());
            queue.oldest = queue.oldest.min(saga.waits_since);
        }
        queues.into_values().collect()
    }
}

/// The saga, known or new; none when there are too many already.
fn room_for(sagas: &mut HashMap<Uuid, Saga>, room: Room, id: Uuid, at: Timestamp) -> Option<&mut Saga> {
    if sagas.len() >= room.unfinished && !sagas.contains_key(&id) {
        return None;
    }
    let new = || Saga {
        standing: Standings::NOTHING,
        is_started: false,
        first: at,
        last: at,
        heard: Timestamp::UNIX_EPOCH,
        given_up: Vec::new(),
    };
    Some(sagas.entry(id).or_insert_with(new))
}

/// Something was heard of the saga.
fn note(strangers: &mut BTreeSet<(Timestamp, Uuid)>, id: Uuid, saga: &mut Saga, now: Timestamp) {
    strangers.remove(&(saga.heard, id));
    saga.heard = now;
    if !saga.is_started {
        strangers.insert((now, id));
    }
}

#[cfg(test)]
mod tests;
