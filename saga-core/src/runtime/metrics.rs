//! The numbers a participant counts, under Prometheus names.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Which half of which step.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StepLabel {
    /// The step.
    pub step: &'static str,
    /// `action` or `compensate`.
    pub op: &'static str,
}

/// A step's half and how it ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HandledLabel {
    /// The step.
    pub step: &'static str,
    /// `action` or `compensate`.
    pub op: &'static str,
    /// `success`, `refused` or `quiet`.
    pub outcome: &'static str,
}

/// A reason or a result out of a small fixed set.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The reason.
    pub reason: &'static str,
}

/// A step's effect and how the call ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CallLabel {
    /// The step.
    pub step: &'static str,
    /// `ok`, `failed`, `timeout` or `rejected` (by the open breaker).
    pub result: &'static str,
}

/// All counters of one participant. A clone counts into the same numbers.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is described where it is registered")]
pub struct Metrics {
    pub handled: Family<HandledLabel, Counter>,
    pub null_compensations: Family<StepLabel, Counter>,
    pub late: Family<StepLabel, Counter>,
    pub duplicates: Family<StepLabel, Counter>,
    pub passed_over: Counter,
    pub dead_letters: Family<ReasonLabel, Counter>,
    pub retries: Family<StepLabel, Counter>,
    pub effect_calls: Family<CallLabel, Counter>,
    pub deadlines_armed: Counter,
    pub deadlines_fired: Counter,
    pub published: Counter,
    pub rebalances: Counter,
    pub in_hand: Gauge,
    pub open_breakers: Gauge,
    pub outbox_pending: Gauge,
    pub parked: Gauge,
    pub held: Gauge,
    pub transaction_seconds: Histogram,
    pub batch_events: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let sizes = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
        Self {
            handled: Family::default(),
            null_compensations: Family::default(),
            late: Family::default(),
            duplicates: Family::default(),
            passed_over: Counter::default(),
            dead_letters: Family::default(),
            retries: Family::default(),
            effect_calls: Family::default(),
            deadlines_armed: Counter::default(),
            deadlines_fired: Counter::default(),
            published: Counter::default(),
            rebalances: Counter::default(),
            in_hand: Gauge::default(),
            open_breakers: Gauge::default(),
            outbox_pending: Gauge::default(),
            parked: Gauge::default(),
            held: Gauge::default(),
            transaction_seconds: Histogram::new(seconds),
            batch_events: Histogram::new(sizes),
        }
    }
}

impl Metrics {
    /// Registers everything under the names an operator sees.
    pub fn register(&self, registry: &mut Registry) {
        let saga = registry.sub_registry_with_prefix("saga");
        saga.register("events_handled", "Events that ran a step or a compensation", self.handled.clone());
        saga.register("null_compensations", "Compensations that had nothing to undo", self.null_compensations.clone());
        saga.register("late_actions", "Actions that came after their compensation and were skipped", self.late.clone());
        saga.register("duplicates", "Events that had been handled before and were skipped", self.duplicates.clone());
        saga.register("events_passed_over", "Events of a type that is not consumed here", self.passed_over.clone());
        saga.register("dead_letters", "Events given up on, by reason", self.dead_letters.clone());
        saga.register("retries", "Failed attempts that will be made again", self.retries.clone());
        saga.register("effect_calls", "Calls to the outside world", self.effect_calls.clone());
        saga.register("deadlines_armed", "Deadlines armed", self.deadlines_armed.clone());
        saga.register("deadlines_fired", "Deadlines that published their event", self.deadlines_fired.clone());
        saga.register("events_published", "Events acknowledged by the broker", self.published.clone());
        saga.register("rebalances", "Changes of the assigned partitions", self.rebalances.clone());
        saga.register("events_in_hand", "Events taken from the broker and not done yet", self.in_hand.clone());
        saga.register("breakers_open", "Steps whose circuit breaker is open", self.open_breakers.clone());
        saga.register("outbox_pending", "Outbox rows not yet marked sent", self.outbox_pending.clone());
        saga.register("parked", "Sagas parked and waiting for a retry", self.parked.clone());
        saga.register("held", "Sagas held behind a dead letter", self.held.clone());
        saga.register_with_unit(
            "transaction",
            "Time from BEGIN to COMMIT of a batch",
            Unit::Seconds,
            self.transaction_seconds.clone(),
        );
        saga.register("batch_events", "Events that shared a transaction", self.batch_events.clone());
    }
}
