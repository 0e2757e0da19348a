//! What the worker does with an effect's answer, a failed step, and a dead letter that is out.

use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;

use super::{
    super::{
        blame::pause_after,
        burial::{Burial, Buried},
        effects::CallError,
        metrics::StepOnly,
        plan,
        stage::{Happened, Stage},
        work::{After, Work, after_failure},
    },
    Worker,
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
    pub(super) fn answered(&mut self, mut work: Work, answer: Result<Erased, CallError>) {
        if !self.is_ours(&work) {
            return self.handed_over(&work);
        }
        let answer = match answer {
            Err(CallError::NotCalled { until }) => return self.not_called(work, until),
            Err(CallError::Failed(failure)) => Err(failure),
            Ok(answer) => Ok(answer),
        };
        match (work.stage, answer) {
            (Stage::Abandon, Err(failure)) => {
                self.failed(work, failure.meaning("what its effect may have done cannot be undone"));
            }
            (_, Err(failure)) => self.failed(work, failure),
            (stage, Ok(answer)) => {
                if stage == Stage::Call {
                    work.input.answer = Some(answer);
                }
                self.goes_on(work, Happened::Answered);
            }
        }
    }

    /// The outside system fails for everybody and was left alone: the saga waits, and has used up no attempt.
    pub(super) fn not_called(&mut self, mut work: Work, until: Timestamp) {
        work.not_called(until, self.shared.clock.now());
        self.goes_on(work, Happened::Retry);
    }

    /// The event concerned its saga alone and failed: try again, refuse, or give up.
    pub(super) fn failed(&mut self, mut work: Work, failure: StepError) {
        let now = self.shared.clock.now();
        let failed_at = *work.failed_at.get_or_insert(now);
        if failure.is_nobodys_fault() && work.stage == Stage::Park {
            // Somebody holds its saga's queue for a moment: why it is parked, and for how long, stays.
            return self.goes_on(work, Happened::Retry);
        }
        if failure.is_nobodys_fault() {
            // Nobody's fault: it uses up no attempt.
            work.lines().in_scope(|| tracing::warn!(error = %failure, "parked until it can be tried"));
            let waited = Duration::try_from(now.duration_since(failed_at)).unwrap_or_default();
            let pause = waited.clamp(self.shared.options.first_pause, self.shared.options.longest_pause);
            work.pause = pause.max(pause_after(work.took));
            if self.has_called(&work) && !failure.is_locked() {
                work.pause = work.pause.max(waited.clamp(*UNRECORDED.start(), *UNRECORDED.end()));
            }
            work.failure = Some(failure);
            return self.goes_on(work, Happened::Retry);
        }
        if work.op == Op::Compensate {
            self.shared.metrics.compensations_failed.get_or_create(&StepOnly { step: work.name }).inc();
        }
        let happened = match after_failure(&self.shared.participant, &work, &failure) {
            After::Retry { attempts, pause } => {
                let due = after(now, pause);
                self.shared.metrics.retries.get_or_create(&plan::label(&work)).inc();
                work.lines()
                    .in_scope(|| tracing::warn!(attempts, %due, error = %failure, "parked for another attempt"));
                (work.attempts, work.pause) = (attempts, pause);
                Happened::Retry
            }
            After::Refuse => {
                work.lines().in_scope(|| tracing::warn!(error = %failure, "retries are used up: refused"));
                let may_hold = self.shared.participant.steps[work.step].action.abandon.is_some();
                if may_hold { Happened::RefuseEffect } else { Happened::Refuse }
            }
            After::DeadLetter(reason) => {
                work.gives_up = reason;
                Happened::GiveUp
            }
        };
        work.failure = Some(failure);
        self.goes_on(work, happened);
    }

    /// Whether the outside system is asked again when the event comes back.
    fn has_called(&self, work: &Work) -> bool {
        let abandons = self.shared.participant.steps[work.step].action.abandon.is_some();
        work.input.answer.is_some() || work.stage == Stage::Exhaust && abandons
    }

    /// The event is given up on: its dead letter goes out before it is held.
    pub(super) fn dead_letter(&mut self, mut work: Work) {
        let now = self.shared.clock.now();
        let (reason, failed_at) = (work.gives_up, *work.failed_at.get_or_insert(now));
        let poison = Poison::new(reason, work.reason());
        work.lines().in_scope(|| tracing::error!(reason = reason.as_str(), error = poison.message, "dead letter"));
        work.attempts += 1;
        work.stage = Stage::DeadLetter;
        let dead = letter(&self.shared.group(), &work.record, &poison, work.attempts, failed_at);
        let (place, record, why) = (work.place.clone(), work.record.clone(), poison.message);
        let buried = Buried::Event(Box::new(work));
        let burial = Burial { dead, reason, buried, place, record, began: now, why };
        self.burials.push(burial.carry_out(self.shared.clone()).boxed_local());
    }

    /// A dead letter is with the broker.
    pub(super) fn buried(&mut self, buried: Buried) {
        match buried {
            Buried::Poison { partition, epoch, offset, bytes } => {
                self.in_hand -= 1;
                self.bytes = self.bytes.saturating_sub(bytes);
                self.offsets.done(&partition, epoch, offset);
            }
            // The new owner of a partition comes to the same end, or to a better one: `goes_on` asks whose it is.
            Buried::Event(work) => self.goes_on(*work, Happened::Published),
        }
    }
}
