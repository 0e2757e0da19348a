//! What follows a failure that concerns one saga: another attempt, a refusal, or a dead letter.

use std::time::Duration;

use crate::runtime::{in_flight::InFlight, stage::Stage};
use crate::{
    barrier::Op, dead_letter::Reason, identity, outcome::StepError, participant::Participant, retry::RetryPolicy,
    store::Store,
};

/// The pause between attempts of a compensation whose retry policy is used up.
const COMPENSATION_PAUSE: Duration = Duration::from_secs(30);

/// The retry policy of voiding an effect. Like a compensation it is owed, so it is tried until it succeeds.
const VOIDS: RetryPolicy = RetryPolicy::exponential(Duration::from_secs(1), COMPENSATION_PAUSE, u32::MAX);

/// What follows a failed attempt. Pure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Try again: the saga is parked for so long.
    Retry { attempts: u32, pause: Duration },
    /// Run the handler that the step declares for this end.
    Refuse,
    /// Publish a dead letter. Then the saga is blocked, or goes on without a compensation that is made at best effort.
    DeadLetter(Reason),
}

/// The rule for a failure that concerns one saga.
pub(crate) fn after_failure<S: Store>(participant: &Participant<S>, event: &InFlight, failure: &StepError) -> After {
    let step = &participant.steps[event.step];
    let refuses = step.action.exhausted.is_some() && event.stage != Stage::Exhaust;
    if failure.ends_retries() {
        return if refuses { After::Refuse } else { After::DeadLetter(Reason::RetriesExhausted) };
    }
    if failure.class() == crate::ErrorClass::Permanent {
        return After::DeadLetter(Reason::Permanent);
    }
    let attempts = event.attempts + 1;
    let jitter = identity::jitter(event.saga_id(), attempts);
    if event.stage == Stage::Abandon {
        let failed_voids = attempts.saturating_sub(step.retry.used_up_after()) + 1;
        let pause = VOIDS.delay(failed_voids, jitter).unwrap_or(COMPENSATION_PAUSE);
        return After::Retry { attempts, pause };
    }
    match step.retry.delay(attempts, jitter) {
        Some(pause) => After::Retry { attempts, pause },
        // A compensation is owed: it is tried again as long as its failure may pass.
        None if event.op == Op::Compensate && !step.is_best_effort(event.op) => {
            After::Retry { attempts, pause: COMPENSATION_PAUSE }
        }
        None if refuses => After::Refuse,
        None => After::DeadLetter(Reason::RetriesExhausted),
    }
}
