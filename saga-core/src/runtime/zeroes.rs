//! Makes a participant's numbers appear with 0: Prometheus does not see the first increase of a counter that appears with it.

use std::hash::Hash;

use prometheus_client::metrics::family::{Family, MetricConstructor};

use super::{
    metrics::{CallLabel, Metrics, OutcomeLabel, ReasonLabel, StepLabel, StepOnly},
    outcome, plan,
};
use crate::{barrier::Op, dead_letter::Reason, graph::Ending, participant::Participant, store::Store};

/// Everything that the participant may ever count, but for what has no use as 0: histograms, and how often handlers ended
/// how.
pub(super) fn appear<S: Store>(metrics: &Metrics, participant: &Participant<S>) {
    for reason in Reason::ALL {
        zero(&metrics.dead_letters, &ReasonLabel { reason: reason.as_str() });
    }
    if participant.ends_sagas() {
        for ending in [Ending::Completed, Ending::Undone] {
            zero(&metrics.finished, &OutcomeLabel { outcome: outcome(ending) });
        }
    }
    for step in &participant.steps {
        let name = step.spec.name;
        let of_step = StepOnly { step: name };
        for op in [Op::Action, Op::Compensate] {
            let Some(half) = step.half(op) else { continue };
            let of_half = StepLabel { step: name, op: plan::op_name(op) };
            zero(&metrics.retries, &of_half);
            zero(&metrics.duplicates, &of_half);
            zero(&metrics.repetitions, &of_half);
            if op == Op::Compensate {
                zero(&metrics.compensations, &of_step);
                zero(&metrics.compensations_failed, &of_step);
                zero(&metrics.compensations_given_up, &of_step);
                zero(&metrics.null_compensations, &of_half);
            } else if step.undo.is_some() {
                zero(&metrics.late, &of_half);
            }
            if half.effect.is_some() {
                zero(&metrics.breaker_open, &of_step);
                for result in ["ok", "failed", "timeout", "rejected"] {
                    zero(&metrics.effect_calls, &CallLabel { step: name, result });
                }
            }
        }
    }
}

fn zero<L: Clone + Hash + Eq, M, C: MetricConstructor<M>>(family: &Family<L, M, C>, label: &L) {
    drop(family.get_or_create(label));
}
