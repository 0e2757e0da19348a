//! What the worker's one transaction at a time is used for: a batch, parked events that are due, deadlines, labels.

use std::{collections::VecDeque, time::Duration};

use futures::{FutureExt, future::LocalBoxFuture};
use jiff::Timestamp;

use crate::runtime::{
    Shared,
    deadlines::fire::{self, Fired},
    in_flight::{InFlight, TakenFrom},
    stage::Stage,
    transaction::batch,
    transaction::handler_failures::HandlerId,
    worker::label_parked::label_parked,
    worker::{
        Worker,
        slot::{Slot, Turn},
    },
};
use crate::{
    barrier::Op,
    clock::{Clock, after},
    store::{ParkedEvent, Store, StoreError},
    transport::Producer,
};

impl<S: Store, P: Producer, C: Clock> Worker<S, P, C> {
    pub(crate) fn wake_in(&self, drain_until: Option<Timestamp>) -> Duration {
        let now = self.shared.clock.now();
        let longest = self.shared.options.poll_every;
        if self.slot.is_some() {
            // The end of the transaction wakes the loop.
            return longest;
        }
        let fire_at = self.shared.has_deadlines.then_some(self.fire_at);
        let claim_at = (self.claimed.len() < self.shared.options.max_batch).then_some(self.claim_at);
        let try_at = (!self.effects.open(&self.shared.participant, now).on_trial.is_empty()).then_some(self.try_at);
        let next = match drain_until {
            Some(until) => until,
            None if !self.labelled => self.claim_at,
            None => [fire_at, claim_at, try_at].into_iter().flatten().min().unwrap_or_else(|| after(now, longest)),
        };
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        wait.clamp(Duration::from_millis(1), longest)
    }

    /// Starts the next use of the transaction slot, when it is free.
    pub(crate) fn fill_slot(&mut self, draining: bool) {
        if self.slot.is_some() {
            return;
        }
        let shared = self.shared.clone();
        let now = shared.clock.now();
        // The clock may have been set back.
        let soon = after(now, shared.options.poll_every);
        for at in [&mut self.claim_at, &mut self.try_at] {
            *at = soon.min(*at);
        }
        self.fire_at = self.fire_at.min(after(now, fire::LONGEST_PAUSE));
        if !self.labelled {
            // Admission waits for this: a redelivery of an event that an earlier version parked is recognised by its label.
            if draining || now < self.claim_at {
                return;
            }
            self.claim_at = soon;
            self.slot = Some(async move { Slot::Labelled(label_parked(&shared).await) }.boxed_local());
            return;
        }
        if let Some(turn) = self.turn.following().into_iter().find(|turn| self.wants(*turn, draining, now)) {
            self.turn = turn;
            self.slot = Some(self.take_turn(turn, now, soon));
        }
    }

    fn wants(&self, turn: Turn, draining: bool, now: Timestamp) -> bool {
        let shared = &self.shared;
        match turn {
            Turn::Batch => !self.ready.is_empty(),
            _ if draining => false,
            Turn::Claim => now >= self.claim_at && self.claimed.len() < shared.options.max_batch,
            Turn::Try => now >= self.try_at && !self.effects.open(&shared.participant, now).on_trial.is_empty(),
            Turn::Fire => now >= self.fire_at && shared.has_deadlines,
        }
    }

    fn take_turn(&mut self, turn: Turn, now: Timestamp, soon: Timestamp) -> LocalBoxFuture<'static, Slot> {
        let shared = self.shared.clone();
        let (lease, max_batch) = (shared.options.lease, shared.options.max_batch);
        match turn {
            Turn::Claim => {
                self.claim_at = soon;
                // No more than can be handled within the lease.
                let limit = max_batch - self.claimed.len();
                let open = self.effects.open(&shared.participant, now);
                let others = [open.resting, open.on_trial].concat();
                async move { Slot::Parked(shared.store.claim_parked(lease, limit, &others).await) }.boxed_local()
            }
            Turn::Try => {
                self.try_at = soon;
                let on_trial = self.effects.open(&shared.participant, now).on_trial;
                async move { Slot::Candidates(candidates(&shared, &on_trial).await) }.boxed_local()
            }
            Turn::Fire => {
                self.fire_at = soon;
                let most = self.fire_most;
                async move { Slot::Timers(fire::fire(shared, most).await) }.boxed_local()
            }
            Turn::Batch => {
                let events = self.next_batch(now);
                async move { Slot::Batch(batch::run(shared, events).await) }.boxed_local()
            }
        }
    }

    /// The events of the next transaction: fresh ones, or parked ones, whichever wait longer. Parked events may wait for a lock,
    /// and fresh events must not wait with them.
    fn next_batch(&mut self, now: Timestamp) -> Vec<InFlight> {
        let is_parked = |event: &InFlight| matches!(event.origin, TakenFrom::Parked { .. });
        let parked = self.ready.front().is_some_and(is_parked);
        if parked && !self.shared.handler_failures.borrow().is_clear() {
            // Only some are tried, so each time others come first. A saga's queue keeps the order within the saga.
            self.ready.make_contiguous().sort_by(|a, b| a.turn(now).total_cmp(&b.turn(now)));
        }
        let (mut events, mut others) = (Vec::new(), VecDeque::new());
        for mut event in self.ready.drain(..) {
            if events.len() == self.batch_most || is_parked(&event) != parked {
                others.push_back(event);
                continue;
            }
            // The breaker is asked before the start is recorded: an effect that was never started needs no compensating call. Whether
            // a compensation calls anything is known in its transaction.
            if event.stage == Stage::Start && event.op == Op::Action && event.pass.is_none() {
                match self.effects.ask(&self.shared, &event) {
                    Ok(pass) => event.pass = Some(pass),
                    Err(until) => {
                        event.not_called(until, now);
                        event.stage = Stage::Park;
                    }
                }
            }
            if matches!(event.stage, Stage::Whole | Stage::Start | Stage::Exhaust)
                && !event.is_admitted
                && let Some(why) = self.shared.handler_failures.borrow_mut().holds(HandlerId::of(&event), parked, now)
            {
                event.held(&why, now, self.shared.options.longest_pause);
                event.stage = Stage::Park;
            }
            let handler = HandlerId::of(&event);
            event.is_admitted = self.shared.handler_failures.borrow().fails_for_everybody(handler).is_some();
            events.push(event);
        }
        self.ready = others;
        events
    }

    /// Clears readiness of failures that no event has met for long.
    fn forget_blame(&self, now: Timestamp) {
        let mut handler_failures = self.shared.handler_failures.borrow_mut();
        if handler_failures.forget(now) && handler_failures.is_clear() {
            self.shared.health.set_waiting("handlers", None);
        }
    }

    pub(crate) fn slot_done(&mut self, slot: Slot) {
        let now = self.shared.clock.now();
        let later = after(now, self.shared.options.poll_every);
        self.forget_blame(now);
        match slot {
            Slot::Batch(batch) => {
                self.claim_at = batch.due.parked.map_or(self.claim_at, |due| self.claim_at.min(due));
                self.fire_at = batch.due.deadline.map_or(self.fire_at, |due| self.fire_at.min(due));
                self.batch_most = match batch.left.is_empty() {
                    true => (self.batch_most * 2).min(self.shared.options.max_batch),
                    false => (self.batch_most / 16).max(1),
                };
                for mut event in batch.left {
                    if self.is_ours(&event) {
                        // Its breaker is asked again.
                        self.effects.unused(&event, now);
                        event.pass = None;
                        self.ready.push_back(event)
                    } else {
                        self.handed_over(&event)
                    }
                }
                for (event, done) in batch.events {
                    match done {
                        Ok(done) => self.advanced(event, done),
                        Err(failure) if self.is_ours(&event) => self.failed(event, failure),
                        Err(_) => self.handed_over(&event),
                    }
                }
            }
            Slot::Parked(Ok(events)) => {
                // There may be more than the limit of one claim.
                if !events.is_empty() {
                    self.claim_at = now;
                }
                events.into_iter().for_each(|event| self.unpark(event));
            }
            Slot::Candidates(Ok(events)) => events.into_iter().for_each(|event| self.unpark(event)),
            Slot::Timers(Fired::All { timers }) => {
                if timers > 0 {
                    self.fire_at = now;
                }
                self.fire_most = (self.fire_most * 2).min(self.shared.options.max_batch);
            }
            Slot::Timers(Fired::Some { took }) => {
                // Failing deadlines are tried in smaller transactions, and take less of the time than events.
                self.fire_at = later.max(after(now, took * 3));
                self.fire_most = (self.fire_most / 8).max(1);
            }
            Slot::Parked(Err(error)) | Slot::Candidates(Err(error)) => {
                tracing::warn!(%error, "parked sagas cannot be claimed now");
                (self.claim_at, self.try_at) = (later, later);
            }
            Slot::Labelled(Ok(())) => {
                self.labelled = true;
                self.claim_at = now;
            }
            Slot::Labelled(Err(error)) => {
                tracing::warn!(%error, "events that an earlier version parked cannot be labelled now")
            }
        }
    }
}

/// How many parked events of a step on trial are claimed. One of them is the trial call; the others wait.
const CANDIDATES: usize = 8;

/// Claims some parked events of each of these steps, whatever else is parked.
async fn candidates<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    on_trial: &[&'static str],
) -> Result<Vec<ParkedEvent>, StoreError> {
    let mut claimed = Vec::new();
    for step in on_trial {
        let names = shared.participant.steps.iter().map(|declared| declared.spec.name);
        let others: Vec<&str> = names.filter(|name| name != step).collect();
        claimed.extend(shared.store.claim_parked(shared.options.lease, CANDIDATES, &others).await?);
    }
    Ok(claimed)
}
