//! What the worker does with an effect's answer, a failed step, and a dead letter that is out.

use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;

use crate::runtime::{
    after_failure::{After, after_failure},
    effects::calls::CallError,
    in_flight::InFlight,
    publish::dead_letters::{DeadLetterDelivery, DeadLettered},
    stage::{Happened, Stage},
    telemetry::metrics::StepOnly,
    transaction::handler_failures::pause_after,
    transaction::pending_writes::label,
    worker::Worker,
};
use crate::{
    barrier::Op,
    clock::{Clock, after},
    dead_letter::{Poison, letter},
    outcome::StepError,
    step::Erased,
    store::Store,
    transport::Producer,
};

/// Between the calls of an effect whose answer cannot be written down: its key is known to the outside system for a limited time.
const UNRECORDED: std::ops::RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(600);

impl<S: Store, P: Producer, C: Clock> Worker<S, P, C> {
    /// The effect was called.
    pub(crate) fn answered(&mut self, mut event: InFlight, answer: Result<Erased, CallError>) {
        if !self.is_ours(&event) {
            return self.handed_over(&event);
        }
        let answer = match answer {
            Err(CallError::NotCalled { until }) => return self.not_called(event, until),
            Err(CallError::Failed(failure)) => Err(failure),
            Ok(answer) => Ok(answer),
        };
        match (event.stage, answer) {
            (Stage::Abandon, Err(failure)) => {
                self.failed(event, failure.meaning("what its effect may have done cannot be undone"));
            }
            (_, Err(failure)) => self.failed(event, failure),
            (stage, Ok(answer)) => {
                if stage == Stage::Call {
                    event.input.answer = Some(answer);
                }
                self.goes_on(event, Happened::Answered);
            }
        }
    }

    /// The outside system fails for everybody and was left alone: the saga waits, and has used up no attempt.
    pub(crate) fn not_called(&mut self, mut event: InFlight, until: Timestamp) {
        event.not_called(until, self.shared.clock.now());
        self.goes_on(event, Happened::Retry);
    }

    /// The event concerned its saga alone and failed: try again, refuse, or give up.
    pub(crate) fn failed(&mut self, mut event: InFlight, failure: StepError) {
        let now = self.shared.clock.now();
        let failed_at = *event.failed_at.get_or_insert(now);
        if failure.is_nobodys_fault() && event.stage == Stage::Park {
            // Somebody holds its saga's queue for a moment: why it is parked, and for how long, stays.
            return self.goes_on(event, Happened::Retry);
        }
        if failure.is_nobodys_fault() {
            // Nobody's fault: it uses up no attempt.
            event.lines().in_scope(|| tracing::warn!(error = %failure, "parked until it can be tried"));
            let waited = Duration::try_from(now.duration_since(failed_at)).unwrap_or_default();
            let pause = waited.clamp(self.shared.options.first_pause, self.shared.options.longest_pause);
            event.pause = pause.max(pause_after(event.took));
            if self.has_called(&event) && !failure.is_locked() {
                event.pause = event.pause.max(waited.clamp(*UNRECORDED.start(), *UNRECORDED.end()));
            }
            event.failure = Some(failure);
            return self.goes_on(event, Happened::Retry);
        }
        if event.op == Op::Compensate {
            self.shared.metrics.compensations_failed.get_or_create(&StepOnly { step: event.name }).inc();
        }
        let happened = match after_failure(&self.shared.participant, &event, &failure) {
            After::Retry { attempts, pause } => {
                let due = after(now, pause);
                self.shared.metrics.retries.get_or_create(&label(&event)).inc();
                event
                    .lines()
                    .in_scope(|| tracing::warn!(attempts, %due, error = %failure, "parked for another attempt"));
                (event.attempts, event.pause) = (attempts, pause);
                Happened::Retry
            }
            After::Refuse => {
                event.lines().in_scope(|| tracing::warn!(error = %failure, "retries are used up: refused"));
                let may_hold = self.shared.participant.steps[event.step].action.abandon.is_some();
                if may_hold { Happened::RefuseEffect } else { Happened::Refuse }
            }
            After::DeadLetter(reason) => {
                event.dead_letter_reason = reason;
                Happened::FailedForGood
            }
        };
        event.failure = Some(failure);
        self.goes_on(event, happened);
    }

    /// Whether the outside system is asked again when the event comes back.
    fn has_called(&self, event: &InFlight) -> bool {
        let abandons = self.shared.participant.steps[event.step].action.abandon.is_some();
        event.input.answer.is_some() || event.stage == Stage::Exhaust && abandons
    }

    /// The event is given up on: its dead letter goes out before it is held.
    pub(crate) fn dead_letter(&mut self, mut event: InFlight) {
        let now = self.shared.clock.now();
        let (reason, failed_at) = (event.dead_letter_reason, *event.failed_at.get_or_insert(now));
        let poison = Poison::new(reason, event.reason());
        event.lines().in_scope(|| tracing::error!(reason = reason.as_str(), error = poison.message, "dead letter"));
        event.attempts += 1;
        event.stage = Stage::DeadLetter;
        let dead = letter(&self.shared.group(), &event.record, &poison, event.attempts, failed_at);
        let (place, record, why) = (event.place.clone(), event.record.clone(), poison.message);
        let dead_lettered = DeadLettered::Event(Box::new(event));
        let delivery = DeadLetterDelivery { dead, reason, dead_lettered, place, record, began: now, why };
        self.dead_letters.push(delivery.deliver(self.shared.clone()).boxed_local());
    }

    /// A dead letter is with the broker.
    pub(crate) fn dead_lettered(&mut self, dead_lettered: DeadLettered) {
        match dead_lettered {
            DeadLettered::Poison { partition, epoch, offset, bytes } => {
                self.in_flight -= 1;
                self.bytes = self.bytes.saturating_sub(bytes);
                self.offsets.done(&partition, epoch, offset);
            }
            // The new owner of a partition comes to the same end, or to a better one: `goes_on` asks whose it is.
            DeadLettered::Event(event) => self.goes_on(*event, Happened::Published),
        }
    }
}
