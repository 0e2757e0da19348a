//! An open transaction: its events, what is decided of each, and what is to be written.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::runtime::{
    Shared,
    in_flight::{InFlight, Keys},
    stage::Happened,
    transaction::{pending_writes::PendingWrites, result::Done},
};
use crate::{
    barrier::Op,
    clock::Clock,
    handler::{ChosenWaits, SagaContext},
    outcome::StepError,
    step::{End, Erased, Input},
    store::Store,
    trace::{NewSpan, UserSpans},
    transport::Producer,
};

pub(crate) struct Attempt<'a, S: Store, P: Producer, C: Clock> {
    pub(crate) shared: &'a Shared<S, P, C>,
    pub(crate) events: &'a [InFlight],
    pub(crate) writes: PendingWrites,
    /// What became of each event; none while it is undecided.
    pub(crate) done: Vec<Option<Done>>,
    /// The events whose handler runs, by the half of a step, since a handler may take several.
    pub(crate) calls: BTreeMap<(usize, Op), Vec<usize>>,
    /// For the part of a join that completes it: all parts together.
    pub(crate) joined: Vec<Option<Erased>>,
    /// The events whose effect is about to be called and has to be prepared.
    pub(crate) to_prepare: Vec<usize>,
    /// The events that are refused because their retries are used up.
    pub(crate) refusals: Vec<usize>,
    /// The place of the parked action that a compensation overtakes.
    pub(crate) overtakes: Vec<Option<i64>>,
    /// Whether the barrier row was there before this transaction.
    pub(crate) found: Vec<bool>,
    /// Whether its handler has run. What prepares an effect is not counted: it says nothing for the handler that runs after it.
    pub(crate) ran: Vec<bool>,
    /// How long sagas wait whose handler has decided it.
    pub(crate) waits: ChosenWaits,
    /// Whether any code of the participant has run, whose writes may fail at the commit.
    pub(crate) has_run_code: bool,
    /// Where the span of its part in the transaction is recorded.
    pub(crate) new_spans: Vec<NewSpan>,
    /// The user's own spans, and the events that they are about.
    pub(crate) user_spans: Vec<(Vec<usize>, Arc<dyn UserSpans>)>,
}

impl<'a, S: Store, P: Producer, C: Clock> Attempt<'a, S, P, C> {
    pub(crate) fn new(shared: &'a Shared<S, P, C>, events: &'a [InFlight], now: Timestamp) -> Self {
        Self {
            shared,
            events,
            writes: PendingWrites::new(now, events.len()),
            done: events.iter().map(|_| None).collect(),
            calls: BTreeMap::new(),
            joined: vec![None; events.len()],
            to_prepare: Vec::new(),
            refusals: Vec::new(),
            overtakes: vec![None; events.len()],
            found: vec![false; events.len()],
            ran: vec![false; events.len()],
            waits: ChosenWaits::new(),
            has_run_code: false,
            new_spans: events.iter().map(|event| shared.spans.transaction_span(event)).collect(),
            user_spans: Vec::new(),
        }
    }

    /// Collects the spans that the user's own code opens about these events.
    pub(crate) fn collect(&mut self, name: &str, at: &[usize]) -> Option<Arc<dyn UserSpans>> {
        let new_spans: Vec<&NewSpan> = at.iter().map(|i| &self.new_spans[*i]).collect();
        let spans = self.shared.spans.user(name, &new_spans)?;
        self.user_spans.push((at.to_vec(), spans.clone()));
        Some(spans)
    }

    pub(crate) fn is(&mut self, i: usize, happened: Happened, keys: Keys) {
        let (origin, joined) = (self.events[i].origin, self.joined[i].clone());
        self.done[i] = Some(Done { happened, keys, origin, joined, prepared: None });
    }

    /// What the event's handler knows about its saga.
    pub(crate) fn saga_context(&self, i: usize) -> SagaContext {
        SagaContext { partly_compensated: self.writes.partly_compensated[i], ..self.events[i].saga_context() }
    }

    /// What the event's handler is given.
    pub(crate) fn input(&self, i: usize) -> Input {
        let input = self.events[i].input.clone();
        match &self.joined[i] {
            Some(joined) => Input { trigger: joined.clone(), ..input },
            None => input,
        }
    }

    pub(crate) fn ended(&mut self, i: usize) {
        self.writes.settled(i, &self.events[i], self.overtakes[i]);
        self.is(i, Happened::Ended, self.events[i].keys);
    }

    /// The event that completes a join counts as an arrival once the join has ended, and not before: its redelivery resumes an effect
    /// that was started.
    pub(crate) fn completed(&mut self, i: usize) -> Result<(), StepError> {
        if self.joined[i].is_some() { self.writes.arrived(&self.events[i], true) } else { Ok(()) }
    }

    pub(crate) fn ran(&mut self, i: usize, end: End) -> Result<(), StepError> {
        if let End::Again { after } = end {
            return self.asks_again(i, after);
        }
        self.writes.ran(self.shared, (i, &self.events[i]), end, (self.found[i], &self.waits))?;
        self.ran[i] = true;
        self.completed(i)?;
        self.ended(i);
        Ok(())
    }

    /// Commits a checkpoint: the event stands aside until its next round.
    fn asks_again(&mut self, i: usize, after: Duration) -> Result<(), StepError> {
        let (shared, event) = (self.shared, &self.events[i]);
        let spec = &shared.participant.steps[event.step].spec;
        let Some(rounds) = spec.rounds else {
            let name = spec.name;
            return Err(StepError::permanent(format!(
                "{name} asks for another round and declares none: add .again(Rounds::at_most(..)) to the step"
            )));
        };
        let next = event.round.saturating_add(1);
        if next >= rounds {
            return Err(StepError::rounds_used_up(spec.name, rounds));
        }
        self.writes.again(shared, (i, event), next, after);
        self.ran[i] = true;
        // The rounds go on with the parts of a join as they are stored.
        if self.joined[i].is_some() {
            self.writes.arrived(event, false)?;
        }
        self.is(i, Happened::Ended, event.keys);
        Ok(())
    }
}
