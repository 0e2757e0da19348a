//! The table of sagas in flight, built from records: the state of each, and totals.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use saga_core::graph::{Choreography, Ending, SagaStatus};
use serde::Serialize;
use uuid::Uuid;

use super::{
    bounded_set::BoundedSagaSet,
    state_cache::{NodeIndex, StateCache},
};
use crate::{
    dead_letter::DeadLetter,
    event::Event,
    observed_record::{ObservedRecord, RecordContent},
    producing_step::declared_event,
};

/// A saga without a start is forgotten after this many deadlines without an event. Deployments may set longer deadlines.
const DEADLINES: u32 = 3;
/// For a flow that declares no deadline.
const USUAL_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// Limits of the table's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Most sagas in flight.
    pub(crate) unfinished: usize,
    /// Most ended sagas that are remembered, so that a late duplicate is not counted again.
    pub(crate) ended: usize,
}

/// Totals since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct Totals {
    pub(crate) started: u64,
    pub(crate) finished: u64,
    pub(crate) dead_letters: u64,
    /// Records that are not events.
    pub(crate) unreadable: u64,
    /// Events whose type or version no participant declares.
    pub(crate) foreign: u64,
    /// Sagas with such events and without a start known to the flow.
    pub(crate) of_other_flows: u64,
    /// Records of sagas beyond the limit.
    pub(crate) untracked: u64,
    /// Sagas without an observed start that have been silent for too long.
    pub(crate) forgotten: u64,
    /// Sagas with both ends, which must never happen.
    pub(crate) contradictory: u64,
    /// Sagas that ended as compensated although a compensation failed for good: what its step did is still in place.
    pub(crate) partly_compensated: u64,
}

/// An ended saga.
#[derive(Debug)]
struct Ended {
    by: &'static str,
    partly_compensated: bool,
}

#[derive(Debug)]
struct Saga {
    state: usize,
    is_started: bool,
    /// Whether one of its compensations failed for good.
    partly_compensated: bool,
    first: Timestamp,
    last: Timestamp,
    /// Time of the latest event, by the table's clock.
    last_event: Timestamp,
    /// The steps blocked by a dead letter, with its reason.
    blocked: Vec<(NodeIndex, Box<str>)>,
}

/// A saga in flight.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InFlightSaga<'a> {
    pub(crate) id: Uuid,
    pub(crate) since: Timestamp,
    /// The time of its last event.
    pub(crate) waits_since: Timestamp,
    /// None when no step is expected.
    pub(crate) waits_for: Option<NodeIndex>,
    /// The missing parts, when this is a join that waits.
    pub(crate) missing: &'a [String],
    pub(crate) blocked_by: Option<&'a str>,
}

/// The sagas that wait for the same step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WaitingSagas {
    pub(crate) waits_for: Option<NodeIndex>,
    pub(crate) sagas: usize,
    pub(crate) blocked: usize,
    pub(crate) oldest: Timestamp,
    /// How many of them lack which part of this join.
    pub(crate) missing: BTreeMap<String, usize>,
}

/// The sagas in flight and the totals.
pub(crate) struct SagaTable {
    states: StateCache,
    limits: Limits,
    sagas: HashMap<Uuid, Saga>,
    /// The latest write time of any record. `ce_time` is not used because a producer may set it to anything.
    clock: Timestamp,
    /// Sagas without an observed start, by the time of their latest event. They include late events of ended sagas.
    without_start: BTreeSet<(Timestamp, Uuid)>,
    forget_after: SignedDuration,
    /// Sagas of other flows.
    other_flows: BoundedSagaSet,
    ended: HashMap<Uuid, Ended>,
    /// Ended sagas, oldest end first.
    ended_order: VecDeque<Uuid>,
    totals: Totals,
    endings: BTreeMap<&'static str, u64>,
}

impl SagaTable {
    pub(crate) fn new(flow: &Choreography, limits: Limits) -> Self {
        let ends = flow.events().filter(|(_, node)| node.end.is_some()).map(|(key, _)| (key.name, 0)).collect();
        let deadlines = flow.declarations().iter().flat_map(|participant| &participant.steps);
        let deadlines = deadlines.flat_map(|step| step.deadlines());
        let deadline = deadlines.map(|(_, deadline)| deadline.after).max();
        let forget_after = deadline.unwrap_or(USUAL_DEADLINE).saturating_mul(DEADLINES);
        Self {
            states: StateCache::of(flow),
            limits,
            sagas: HashMap::new(),
            clock: Timestamp::UNIX_EPOCH,
            without_start: BTreeSet::new(),
            forget_after: forget_after.try_into().unwrap_or(SignedDuration::MAX),
            other_flows: BoundedSagaSet::new(limits.ended),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            totals: Totals::default(),
            endings: ends,
        }
    }

    pub(crate) fn flow(&self) -> &Choreography {
        self.states.flow()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// How long a saga without an observed start is kept after its latest event.
    pub(crate) fn forget_after(&self) -> SignedDuration {
        self.forget_after
    }

    /// Advances the clock. All records written before this time have been added.
    pub(crate) fn advance_clock(&mut self, now: Timestamp) {
        self.clock = self.clock.max(now);
        while let Some((last_event, id)) = self.without_start.first().copied()
            && self.clock.duration_since(last_event) > self.forget_after
        {
            self.without_start.pop_first();
            // A blocked saga publishes nothing until an operator acts, so silence does not end it.
            let is_blocked = self.sagas.get(&id).is_some_and(|saga| self.view(id, saga).blocked_by.is_some());
            if !is_blocked && self.sagas.remove(&id).is_some() {
                self.totals.forgotten += 1;
            }
        }
    }

    /// The number of sagas per end.
    pub(crate) fn endings(&self) -> &BTreeMap<&'static str, u64> {
        &self.endings
    }

    pub(crate) fn add(&mut self, observed: &ObservedRecord) {
        match &observed.content {
            RecordContent::Event(event) => self.event(event, observed.at()),
            RecordContent::DeadLetter(dead_letter) => self.dead_letter(dead_letter, observed.saga, observed.at()),
            RecordContent::Unreadable { .. } => self.totals.unreadable += 1,
        }
    }

    fn event(&mut self, event: &Event, at: Timestamp) {
        let Some(key) = declared_event(self.states.flow(), event) else {
            self.totals.foreign += 1;
            return self.foreign(event.saga);
        };
        let ends = self.states.flow().end(key).is_some();
        if let Some(end) = self.ended.get_mut(&event.saga) {
            if ends && end.by != key.name {
                end.by = key.name;
                self.totals.contradictory += 1;
            }
            // Topics have no common order.
            if event.partly_compensated && !std::mem::replace(&mut end.partly_compensated, true) {
                self.totals.partly_compensated += u64::from(is_compensated(self.states.flow(), end.by));
            }
            return;
        }
        let is_start = self.states.flow().entrances().contains(&key);
        if !is_start && self.other_flows.contains(&event.saga) {
            return;
        }
        if is_start && self.other_flows.remove(event.saga) {
            // The event of a newer participant can be read before the start: topics have no common order.
            self.totals.of_other_flows -= 1;
        }
        let Some(saga) = entry(&mut self.sagas, self.limits, event.saga, at) else {
            // An end needs no entry in the table.
            if ends {
                self.end(event.saga, key.name, event.partly_compensated);
            } else {
                self.totals.untracked += 1;
            }
            return;
        };
        saga.partly_compensated |= event.partly_compensated;
        let partly_compensated = saga.partly_compensated;
        saga.first = saga.first.min(at);
        saga.last = saga.last.max(at);
        saga.state = self.states.after(saga.state, key);
        if is_start && !saga.is_started {
            saga.is_started = true;
            self.totals.started += 1;
        }
        touch(&mut self.without_start, event.saga, saga, self.clock);
        let status = self.states.get(saga.state).status;
        if !matches!(status, SagaStatus::Forward | SagaStatus::Backward) {
            self.end(event.saga, key.name, partly_compensated);
        }
    }

    /// Handles an event that the flow does not know. Unless the saga has a start that the flow knows, it belongs to another
    /// flow, which may use the same names, and only its number is reported.
    fn foreign(&mut self, saga: Uuid) {
        if self.ended.contains_key(&saga) || self.sagas.get(&saga).is_some_and(|known| known.is_started) {
            return;
        }
        if let Some(known) = self.sagas.remove(&saga) {
            self.without_start.remove(&(known.last_event, saga));
        }
        self.totals.of_other_flows += u64::from(self.other_flows.insert(saga));
    }

    fn end(&mut self, saga: Uuid, by: &'static str, partly_compensated: bool) {
        if let Some(known) = self.sagas.remove(&saga) {
            self.without_start.remove(&(known.last_event, saga));
        }
        self.totals.finished += 1;
        *self.endings.entry(by).or_default() += 1;
        let is_partly = partly_compensated && is_compensated(self.states.flow(), by);
        self.totals.partly_compensated += u64::from(is_partly);
        self.ended.insert(saga, Ended { by, partly_compensated });
        self.ended_order.push_back(saga);
        while self.ended_order.len() > self.limits.ended {
            if let Some(forgotten) = self.ended_order.pop_front() {
                self.ended.remove(&forgotten);
            }
        }
    }

    fn dead_letter(&mut self, dead_letter: &DeadLetter, saga: Option<Uuid>, at: Timestamp) {
        self.totals.dead_letters += 1;
        let (Some(event), Some(id)) = (&dead_letter.event, saga) else { return };
        let flow = self.states.flow();
        let is_over = self.ended.contains_key(&id) || self.other_flows.contains(&id);
        if declared_event(flow, event).is_none() || is_over {
            return;
        }
        let consumes = |node: &saga_core::graph::Node| node.triggers.iter().any(|trigger| trigger.name == event.kind);
        let nodes = flow.nodes().iter().enumerate();
        let matching = nodes.filter(|(_, node)| dead_letter.is_of(node.participant) && consumes(node));
        let blocked_nodes: Vec<NodeIndex> = matching.map(|(node, _)| node).collect();
        let Some(saga) = entry(&mut self.sagas, self.limits, id, event.at.min(at)) else {
            self.totals.untracked += 1;
            return;
        };
        saga.blocked.retain(|(node, _)| !blocked_nodes.contains(node));
        saga.blocked.extend(blocked_nodes.into_iter().map(|node| (node, dead_letter.reason.as_str().into())));
        touch(&mut self.without_start, id, saga, self.clock);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.sagas.len()
    }

    /// The oldest unfinished sagas, at most this many.
    pub(crate) fn oldest(&self, most: usize) -> Vec<InFlightSaga<'_>> {
        let mut all: Vec<(&Uuid, &Saga)> = self.sagas.iter().collect();
        let by_age = |(id, saga): &(&Uuid, &Saga)| (saga.first, **id);
        if all.len() > most {
            all.select_nth_unstable_by_key(most, by_age);
            all.truncate(most);
        }
        all.sort_unstable_by_key(by_age);
        all.into_iter().map(|(id, saga)| self.view(*id, saga)).collect()
    }

    fn view<'a>(&'a self, id: Uuid, saga: &'a Saga) -> InFlightSaga<'a> {
        let state = self.states.get(saga.state);
        let awaited = &state.awaited;
        // A blocked step is the one that the saga waits for.
        let blocking = saga.blocked.iter().rfind(|(node, _)| awaited.contains(node));
        let waits_for = blocking.map(|(node, _)| *node).or(awaited.first().copied());
        let missing = waits_for.and_then(|node| state.missing.get(&node));
        InFlightSaga {
            id,
            since: saga.first,
            waits_since: saga.last,
            waits_for,
            missing: missing.map_or(&[], Vec::as_slice),
            blocked_by: blocking.map(|(_, reason)| &**reason),
        }
    }

    /// The sagas in flight, grouped by the step that they wait for, in the order of the participants. Sagas for which no step
    /// is expected come last.
    pub(crate) fn waiting(&self) -> Vec<WaitingSagas> {
        let mut waiting: BTreeMap<(bool, NodeIndex), WaitingSagas> = BTreeMap::new();
        for (id, saga) in &self.sagas {
            let saga = self.view(*id, saga);
            let key = (saga.waits_for.is_none(), saga.waits_for.unwrap_or_default());
            let (waits_for, oldest) = (saga.waits_for, saga.waits_since);
            let new = WaitingSagas { waits_for, sagas: 0, blocked: 0, oldest, missing: BTreeMap::new() };
            let group = waiting.entry(key).or_insert(new);
            group.sagas += 1;
            group.blocked += usize::from(saga.blocked_by.is_some());
            group.oldest = group.oldest.min(saga.waits_since);
            for part in saga.missing {
                *group.missing.entry(part.clone()).or_default() += 1;
            }
        }
        waiting.into_values().collect()
    }
}

/// Whether a saga that ends with this event counts as compensated.
fn is_compensated(flow: &Choreography, end: &str) -> bool {
    flow.events_named(end).any(|(_, node)| node.end == Some(Ending::Compensated))
}

/// The saga's entry, new if necessary; none when the table is full.
fn entry(sagas: &mut HashMap<Uuid, Saga>, limits: Limits, id: Uuid, at: Timestamp) -> Option<&mut Saga> {
    if sagas.len() >= limits.unfinished && !sagas.contains_key(&id) {
        return None;
    }
    let new = || Saga {
        state: StateCache::INITIAL,
        is_started: false,
        partly_compensated: false,
        first: at,
        last: at,
        last_event: Timestamp::UNIX_EPOCH,
        blocked: Vec::new(),
    };
    Some(sagas.entry(id).or_insert_with(new))
}

/// Notes that an event of the saga was read.
fn touch(without_start: &mut BTreeSet<(Timestamp, Uuid)>, id: Uuid, saga: &mut Saga, now: Timestamp) {
    without_start.remove(&(saga.last_event, id));
    saga.last_event = now;
    if !saga.is_started {
        without_start.insert((now, id));
    }
}

#[cfg(test)]
mod tests;
