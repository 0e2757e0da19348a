//! What the worker does with an effect's answer, a failed step and an acknowledged dead letter.

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
    transaction::counts::label,
    transaction::handler_failures::pause_after,
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

/// The pause between calls of an effect whose answer cannot be recorded. Outside systems remember a key for a limited time.
const UNRECORDED: std::ops::RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(600);

impl<S: Store, P: Producer, C: Clock> Worker<S, P, C> {
    /// Handles what an effect returned.
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
                self.failed(event, failure.meaning("its effect cannot be voided"));
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

    /// Parks an event whose effect was not called because the breaker is open. It uses up no attempt.
    pub(crate) fn not_called(&mut self, mut event: InFlight, until: Timestamp) {
        event.not_called(until, self.shared.clock.now());
        self.goes_on(event, Happened::Retry);
    }

    /// Handles a failure that concerns one saga: another attempt, a refusal, or a dead letter.
    pub(crate) fn failed(&mut self, mut event: InFlight, failure: StepError) {
        let now = self.shared.clock.now();
        let failed_at = *event.failed_at.get_or_insert(now);
        if failure.uses_up_no_attempt() && matches!(event.stage, Stage::Park | Stage::RecordFailure) {
            // Another transaction has locked a row for a moment. Reason and pause of the event stay.
            return self.goes_on(event, Happened::Retry);
        }
        if failure.uses_up_no_attempt() {
            // The event is not at fault: it uses up no attempt.
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

    /// Whether the effect will be called again when the event is tried again.
    fn has_called(&self, event: &InFlight) -> bool {
        let abandons = self.shared.participant.steps[event.step].action.abandon.is_some();
        event.input.answer.is_some() || event.stage == Stage::Exhaust && abandons
    }

    /// Publishes an event's dead letter, before the event blocks its saga or the saga goes on without it.
    pub(crate) fn dead_letter(&mut self, mut event: InFlight) {
        let now = self.shared.clock.now();
        let (reason, failed_at) = (event.dead_letter_reason, *event.failed_at.get_or_insert(now));
        let poison = Poison::new(reason, event.reason());
        event.lines().in_scope(|| tracing::error!(reason = reason.as_str(), error = poison.message, "dead letter"));
        event.attempts += 1;
        event.stage = Stage::DeadLetter;
        let dead = letter(&self.shared.group(), &event.record, &poison, event.attempts, failed_at);
        let (span, record, why) = (event.span.clone(), event.record.clone(), poison.message);
        let dead_lettered = DeadLettered::Event(Box::new(event));
        let delivery = DeadLetterDelivery { dead, reason, dead_lettered, span, record, began: now, why };
        self.dead_letters.push(delivery.deliver(self.shared.clone()).boxed_local());
    }

    /// Handles an acknowledged dead letter.
    pub(crate) fn dead_lettered(&mut self, dead_lettered: DeadLettered) {
        match dead_lettered {
            DeadLettered::Poison { partition, epoch, offset, bytes } => {
                self.in_flight -= 1;
                self.bytes = self.bytes.saturating_sub(bytes);
                self.offsets.done(&partition, epoch, offset);
            }
            // `goes_on` asks who owns the partition. A new owner handles the event again.
            DeadLettered::Event(event) => {
                let best_effort = self.shared.participant.steps[event.step].is_best_effort(event.op);
                self.goes_on(*event, if best_effort { Happened::PublishedBestEffort } else { Happened::Published });
            }
        }
    }
}
