//! An open transaction: its events, what is decided of each, and what is to be written.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::runtime::{
    Shared,
    in_flight::{InFlight, Keys},
    stage::Happened,
    transaction::{pending_writes::PendingWrites, result::Done},
};
use crate::{barrier::Op, clock::Clock, outcome::StepError, store::Store, transport::Producer};

pub(crate) struct Attempt<'a, S: Store, P: Producer, C: Clock> {
    pub(crate) shared: &'a Shared<S, P, C>,
    pub(crate) events: &'a [InFlight],
    pub(crate) writes: PendingWrites,
    /// None of an event that is still to be decided.
    pub(crate) done: Vec<Option<Done>>,
    /// Those whose handler runs, by the half of a step, since a handler may take many at once.
    pub(crate) calls: BTreeMap<(usize, Op), Vec<usize>>,
    /// Those that are refused because their retries are used up.
    pub(crate) refusals: Vec<usize>,
    /// The place of the parked action that a compensation overtakes.
    pub(crate) overtakes: Vec<Option<i64>>,
    /// Whether there was a row before, which says something else than the end.
    pub(crate) found: Vec<bool>,
    /// Whether its handler has run.
    pub(crate) ran: Vec<bool>,
}

impl<'a, S: Store, P: Producer, C: Clock> Attempt<'a, S, P, C> {
    pub(crate) fn new(shared: &'a Shared<S, P, C>, events: &'a [InFlight], now: Timestamp) -> Self {
        Self {
            shared,
            events,
            writes: PendingWrites::new(now, events.len()),
            done: events.iter().map(|_| None).collect(),
            calls: BTreeMap::new(),
            refusals: Vec::new(),
            overtakes: vec![None; events.len()],
            found: vec![false; events.len()],
            ran: vec![false; events.len()],
        }
    }

    pub(crate) fn is(&mut self, i: usize, happened: Happened, keys: Keys) {
        self.done[i] = Some(Done { happened, keys, origin: self.events[i].origin });
    }

    pub(crate) fn ended(&mut self, i: usize) {
        self.writes.settled(i, &self.events[i], self.overtakes[i]);
        self.is(i, Happened::Ended, self.events[i].keys);
    }

    pub(crate) fn ran(&mut self, i: usize, end: crate::step::End) -> Result<(), StepError> {
        self.writes.ran(self.shared, (i, &self.events[i]), end, self.found[i])?;
        self.ran[i] = true;
        self.ended(i);
        Ok(())
    }
}
