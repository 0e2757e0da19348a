//! What the worker does with an effect's answer, a failed step, and a dead letter that is out.

use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;

use super::{
    super::{
        burial::{Burial, Buried},
        effects::CallError,
        metrics::StepOnly,
        plan,
        work::{After, Todo, Work, after_failure},
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

/// Between the attempts to make sure that an effect whose retries are used up does not hold.
const ABANDON_PAUSE: Duration = Duration::from_secs(5);

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
        match (work.todo, answer) {
            (Todo::Abandon(failure), Ok(_)) => {
                work.todo = Todo::Exhaust(failure);
                self.ready.push_back(work);
            }
            (Todo::Abandon(_), Err(error)) => {
                let now = self.shared.clock.now();
                let (attempts, pause) = (work.attempts, ABANDON_PAUSE);
                let failed_at = work.failed_at.unwrap_or(now);
                work.todo = Todo::Park { attempts, pause, failed_at, reason: error.to_string() };
                work.lines().in_scope(|| tracing::warn!(%error, "cannot be refused yet"));
                self.ready.push_back(work);
            }
            (_, Ok(answer)) => {
                work.input.answer = Some(answer);
                work.todo = Todo::Finish;
                self.ready.push_back(work);
            }
            (todo, Err(failure)) => {
                work.todo = todo;
                self.failed(work, failure);
            }
        }
    }

    /// The outside system fails for everybody and was left alone: the saga waits, and has used up no attempt.
    fn not_called(&mut self, mut work: Work, until: Timestamp) {
        let now = self.shared.clock.now();
        let failed_at = work.failed_at.unwrap_or(now);
        let pause = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let reason = "the outside system fails for everybody: not called (circuit open)".to_owned();
        work.lines().in_scope(|| tracing::debug!(%until, "parked: the circuit is open"));
        work.todo = Todo::Park { attempts: work.attempts, pause, failed_at, reason };
        self.ready.push_back(work);
    }

    /// The event concerned its saga alone and failed: try again, refuse, or give up.
    pub(super) fn failed(&mut self, mut work: Work, failure: StepError) {
        let now = self.shared.clock.now();
        let failed_at = *work.failed_at.get_or_insert(now);
        let _lines = work.lines().entered();
        if work.op == Op::Compensate {
            self.shared.metrics.compensations_failed.get_or_create(&StepOnly { step: work.name }).inc();
        }
        match after_failure(&self.shared.participant, &work, &failure) {
            After::Retry { attempts, pause } => {
                self.shared.metrics.retries.get_or_create(&plan::label(&work)).inc();
                let due = after(now, pause);
                tracing::warn!(attempts, %due, error = %failure, "parked for another attempt");
                work.attempts = attempts;
                work.todo = Todo::Park { attempts, pause, failed_at, reason: failure.to_string() };
                self.ready.push_back(work);
            }
            After::Refuse => {
                tracing::warn!(error = %failure, "retries are used up: refused");
                let may_hold = self.shared.participant.steps[work.step].action.abandon.is_some();
                work.todo = if may_hold { Todo::Void(failure) } else { Todo::Exhaust(failure) };
                self.ready.push_back(work);
            }
            After::DeadLetter(reason) => {
                tracing::error!(reason = reason.as_str(), error = %failure, "dead letter");
                let poison = Poison::new(reason, failure.to_string());
                let attempts = work.attempts + 1;
                let dead = letter(self.shared.participant.name, &work.record, &poison, attempts, failed_at);
                work.attempts = attempts;
                let (place, record, why) = (work.place.clone(), work.record.clone(), poison.message.clone());
                let buried = Buried::Event(Box::new(work), poison.message);
                let burial = Burial { dead, reason, buried, place, record, began: now, why };
                self.burials.push(burial.carry_out(self.shared.clone()).boxed_local());
            }
        }
    }

    /// A dead letter is with the broker.
    pub(super) fn buried(&mut self, buried: Buried) {
        match buried {
            Buried::Poison { partition, epoch, offset, bytes } => {
                self.in_hand -= 1;
                self.bytes = self.bytes.saturating_sub(bytes);
                self.offsets.done(&partition, epoch, offset);
            }
            // The new owner of the partition comes to the same end, or to a better one.
            Buried::Event(work, _) if !self.is_ours(&work) => self.handed_over(&work),
            Buried::Event(mut work, reason) => {
                work.todo = Todo::Hold { reason };
                self.ready.push_back(*work);
            }
        }
    }
}
