//! What the worker's one transaction at a time is used for: a batch, parked events that are due, deadlines, labels.

use std::{collections::VecDeque, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;

use super::{
    super::{
        batch,
        batch::Batch,
        stage::Stage,
        timers,
        work::{Origin, Work},
    },
    Worker,
    labels::label_parked,
};
use crate::{
    barrier::Op,
    clock::{Clock, after},
    outcome::StepError,
    store::{ParkedEvent, Store, StoreError},
    transport::Producer,
};

/// What the transaction slot was used for.
pub(super) enum Slot {
    Batch(Batch),
    Parked(Result<Vec<ParkedEvent>, StoreError>),
    Timers(Result<usize, StepError>),
    Labelled(Result<(), StoreError>),
}

impl<S: Store, P: Producer, C: Clock> Worker<S, P, C> {
    pub(super) fn wake_in(&self, drain_until: Option<Timestamp>) -> Duration {
        let now = self.shared.clock.now();
        let longest = self.shared.options.look_every;
        if self.slot.is_some() {
            // The slot's end wakes the loop before anything that waits for the slot.
            return longest;
        }
        let fire_at = self.shared.has_deadlines.then_some(self.fire_at);
        let claim_at = (self.claimed.len() < self.shared.options.max_batch).then_some(self.claim_at);
        let next = match drain_until {
            Some(until) => until,
            None => fire_at.into_iter().chain(claim_at).min().unwrap_or_else(|| after(now, longest)),
        };
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        wait.clamp(Duration::from_millis(1), longest)
    }

    /// Starts the next use of the transaction slot, when it is free.
    pub(super) fn fill_slot(&mut self, draining: bool) {
        if self.slot.is_some() {
            return;
        }
        let shared = self.shared.clone();
        let now = shared.clock.now();
        // The clock may have been set back.
        let soon = after(now, shared.options.look_every);
        self.claim_at = self.claim_at.min(soon);
        self.fire_at = self.fire_at.min(soon);
        if !self.labelled {
            // Nothing is admitted before: what an earlier version parked would not be known again.
            if draining || now < self.claim_at {
                return;
            }
            self.claim_at = after(now, shared.options.look_every);
            self.slot = Some(async move { Slot::Labelled(label_parked(&shared).await) }.boxed_local());
        } else if !draining && now >= self.claim_at && self.claimed.len() < shared.options.max_batch {
            self.claim_at = after(now, shared.options.look_every);
            let lease = shared.options.lease;
            // No more than can be handled within the lease; the others stay where they are safe.
            let (limit, resting) = self.effects.claimable(&shared, shared.options.max_batch - self.claimed.len());
            let claim = async move { Slot::Parked(shared.store.claim_parked(lease, limit, &resting).await) };
            self.slot = Some(claim.boxed_local());
        } else if !draining && shared.has_deadlines && now >= self.fire_at {
            self.fire_at = after(now, shared.options.look_every);
            let limit = shared.options.max_batch;
            self.slot = Some(async move { Slot::Timers(timers::fire(shared, limit).await) }.boxed_local());
        } else if !self.ready.is_empty() {
            let works = self.next_batch(now);
            self.slot = Some(async move { Slot::Batch(batch::run(shared, works).await) }.boxed_local());
        }
    }

    /// What shares the next transaction: fresh events, or those that were parked, whichever waits longer. The ones may wait for a
    /// lock that somebody holds, and the others not for them.
    fn next_batch(&mut self, now: Timestamp) -> Vec<Work> {
        let is_parked = |work: &Work| matches!(work.origin, Origin::Parked { .. });
        let parked = self.ready.front().is_some_and(is_parked);
        if parked && !self.shared.blame.borrow().is_clear() {
            // Some are tried and the others wait: each time others are first. Those of one saga keep their order in its lane.
            self.ready.make_contiguous().sort_by(|a, b| a.turn(now).total_cmp(&b.turn(now)));
        }
        let (mut works, mut others) = (Vec::new(), VecDeque::new());
        for mut work in self.ready.drain(..) {
            if works.len() == self.shared.options.max_batch || is_parked(&work) != parked {
                others.push_back(work);
                continue;
            }
            // Asked before the start is recorded: what was never started needs no call to be undone. Whether a compensation calls
            // anything is not known before its transaction.
            if work.stage == Stage::Start && work.op == Op::Action && work.pass.is_none() {
                match self.effects.ask(&self.shared, &work) {
                    Ok(pass) => work.pass = Some(pass),
                    Err(until) => {
                        work.not_called(until, now);
                        work.stage = Stage::Park;
                    }
                }
            }
            if matches!(work.stage, Stage::Whole | Stage::Start)
                && let Some(why) = self.shared.blame.borrow_mut().holds((work.step, work.op), parked, now)
            {
                work.refused_for_all(why, now, self.shared.options.longest_pause);
                work.stage = Stage::Park;
            }
            works.push(work);
        }
        self.ready = others;
        works
    }

    pub(super) fn slot_done(&mut self, slot: Slot) {
        let now = self.shared.clock.now();
        let later = after(now, self.shared.options.look_every);
        match slot {
            Slot::Batch(batch) => {
                if let Some(due) = batch.due {
                    self.claim_at = self.claim_at.min(due);
                    self.fire_at = self.fire_at.min(due);
                }
                for (work, done) in batch.works {
                    match done {
                        Ok(done) => self.advanced(work, done),
                        Err(failure) if self.is_ours(&work) => self.failed(work, failure),
                        Err(_) => self.handed_over(&work),
                    }
                }
            }
            Slot::Parked(Ok(events)) => {
                // There may be more than one claim takes. Those of a step that is on trial are not all wanted.
                if !events.is_empty() && !self.effects.is_trying(now) {
                    self.claim_at = now;
                }
                events.into_iter().for_each(|event| self.unpark(event));
            }
            Slot::Timers(Ok(fired)) => {
                if fired > 0 {
                    self.fire_at = now;
                }
            }
            Slot::Parked(Err(error)) => {
                tracing::warn!(%error, "parked sagas cannot be looked for now");
                self.claim_at = later;
            }
            Slot::Labelled(Ok(())) => {
                self.labelled = true;
                self.claim_at = now;
            }
            Slot::Labelled(Err(error)) => tracing::warn!(%error, "what an earlier version parked cannot be read now"),
            Slot::Timers(Err(error)) => {
                tracing::warn!(%error, "deadlines cannot be fired now");
                self.fire_at = later;
            }
        }
    }
}
