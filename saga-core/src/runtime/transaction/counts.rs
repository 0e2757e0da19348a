//! What is counted once a transaction has committed.

use crate::runtime::{
    Shared,
    in_flight::InFlight,
    telemetry::metrics::{HandledLabel, StepLabel, StepOnly, op_name},
};
use crate::{
    barrier::{Op, Skip},
    clock::Clock,
    store::Store,
    transport::Producer,
};

/// What to count once the transaction has committed.
pub(crate) enum Count {
    Skipped(usize, Skip),
    /// A parked action whose place its compensation took.
    Overtaken(usize),
    Handled(HandledLabel),
    /// A part of a join that is not complete.
    Arrived(StepLabel),
    Null(StepLabel),
    /// A step asks for another round.
    Round(StepOnly),
    /// A compensation that failed for good, and without which its saga goes on.
    FailedForGood(StepOnly),
}

impl Count {
    pub(crate) fn add<S: Store, P: Producer, C: Clock>(self, shared: &Shared<S, P, C>, events: &[InFlight]) {
        let metrics = &shared.metrics;
        match self {
            Self::Skipped(i, skip) => {
                if skip == Skip::Duplicate {
                    // Another process may have committed its event without publishing it.
                    shared.outbox.look_for(events[i].saga_id());
                }
                let label = label(&events[i]);
                match skip {
                    Skip::Duplicate => metrics.duplicates.get_or_create(&label).inc(),
                    Skip::Alternative => metrics.alternatives.get_or_create(&label).inc(),
                    Skip::Repetition => metrics.repetitions.get_or_create(&label).inc(),
                    Skip::Late => metrics.late.get_or_create(&label).inc(),
                };
                let event_type = &events[i].envelope.event_type;
                events[i].lines().in_scope(|| match skip {
                    Skip::Alternative => {
                        tracing::info!(event_type, "skipped: another of the events that start the step came before")
                    }
                    _ => tracing::debug!(event_type, ?skip, "skipped"),
                });
            }
            Self::Overtaken(i) => {
                let label = StepLabel { step: events[i].name, op: op_name(Op::Action) };
                metrics.late.get_or_create(&label).inc();
                events[i].lines().in_scope(|| tracing::info!("a parked action was overtaken by its compensation"));
            }
            Self::Handled(label) => {
                if label.op == op_name(Op::Compensate) {
                    metrics.compensations.get_or_create(&StepOnly { step: label.step }).inc();
                }
                metrics.handled.get_or_create(&label).inc();
            }
            Self::Arrived(StepLabel { step, op }) => {
                metrics.handled.get_or_create(&HandledLabel { step, op, outcome: "arrived" }).inc();
            }
            Self::Round(step) => {
                metrics.rounds.get_or_create(&step).inc();
            }
            Self::Null(label) => {
                metrics.null_compensations.get_or_create(&label).inc();
            }
            Self::FailedForGood(label) => {
                metrics.compensations_failed_for_good.get_or_create(&label).inc();
            }
        }
    }
}

pub(crate) fn label(event: &InFlight) -> StepLabel {
    StepLabel { step: event.name, op: op_name(event.op) }
}
