//! A participant's metrics, under their Prometheus names.

use std::hash::Hash;

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use crate::{barrier::Op, dead_letter::Reason, graph::Ending, participant::Participant, store::Store};

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
    /// `success`, `refused`, `quiet` or `again`.
    pub outcome: &'static str,
}

/// A step's handler.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StepOnly {
    /// The step.
    pub step: &'static str,
}

/// How a saga ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `completed`, `compensated` or `partly_compensated`.
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

/// Buckets of durations within a process.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets of the duration of sagas, which may wait for a deadline.
const SAGA_SECONDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// The longest plausible wait of an event, in seconds: 30 days, longer than most topics keep records.
const LONGEST_WAIT: f64 = 30.0 * 86_400.0;
/// How far ahead a producer's clock may plausibly be, in seconds.
const LONGEST_AHEAD: f64 = 3_600.0;

/// All metrics of one participant. A clone counts into the same ones. Those of its tables come from the store's summary.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is described where it is registered")]
pub struct Metrics {
    pub started: Counter,
    pub finished: Family<OutcomeLabel, Counter>,
    pub duration_seconds: Family<OutcomeLabel, Histogram, fn() -> Histogram>,
    pub compensations: Family<StepOnly, Counter>,
    pub compensations_failed: Family<StepOnly, Counter>,
    pub compensations_dead_lettered: Family<StepOnly, Counter>,
    pub compensations_failed_for_good: Family<StepOnly, Counter>,
    pub wait_seconds: Histogram,
    pub implausible_times: Counter,
    pub handler_seconds: Family<StepLabel, Histogram, fn() -> Histogram>,
    pub effect_seconds: Family<StepOnly, Histogram, fn() -> Histogram>,
    pub relay_seconds: Histogram,
    pub handled: Family<HandledLabel, Counter>,
    pub rounds: Family<StepOnly, Counter>,
    pub null_compensations: Family<StepLabel, Counter>,
    pub late: Family<StepLabel, Counter>,
    pub duplicates: Family<StepLabel, Counter>,
    pub alternatives: Family<StepLabel, Counter>,
    pub repetitions: Family<StepLabel, Counter>,
    pub passed_over: Counter,
    pub dead_letters: Family<ReasonLabel, Counter>,
    pub retries: Family<StepLabel, Counter>,
    pub effect_calls: Family<CallLabel, Counter>,
    pub deadlines_armed: Counter,
    pub deadlines_fired: Counter,
    pub published: Counter,
    pub rebalances: Counter,
    pub in_flight: Gauge,
    pub breaker_open: Family<StepOnly, Gauge>,
    pub transaction_seconds: Histogram,
    pub batch_events: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let sizes = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            started: Counter::default(),
            finished: Family::default(),
            duration_seconds: Family::new_with_constructor(|| Histogram::new(SAGA_SECONDS)),
            compensations: Family::default(),
            compensations_failed: Family::default(),
            compensations_dead_lettered: Family::default(),
            compensations_failed_for_good: Family::default(),
            wait_seconds: Histogram::new(SAGA_SECONDS),
            implausible_times: Counter::default(),
            handler_seconds: Family::new_with_constructor(seconds),
            effect_seconds: Family::new_with_constructor(seconds),
            relay_seconds: seconds(),
            handled: Family::default(),
            rounds: Family::default(),
            null_compensations: Family::default(),
            late: Family::default(),
            duplicates: Family::default(),
            alternatives: Family::default(),
            repetitions: Family::default(),
            passed_over: Counter::default(),
            dead_letters: Family::default(),
            retries: Family::default(),
            effect_calls: Family::default(),
            deadlines_armed: Counter::default(),
            deadlines_fired: Counter::default(),
            published: Counter::default(),
            rebalances: Counter::default(),
            in_flight: Gauge::default(),
            breaker_open: Family::default(),
            transaction_seconds: seconds(),
            batch_events: Histogram::new(sizes),
        }
    }
}

impl Metrics {
    /// Observes how long an event waited. A producer may write any time, so implausible values are clamped: one that is centuries
    /// away would dominate the mean.
    pub(crate) fn waited(&self, published: Timestamp, now: Timestamp) {
        let waited = now.duration_since(published).as_secs_f64();
        if !(-LONGEST_AHEAD..=LONGEST_WAIT).contains(&waited) {
            self.implausible_times.inc();
        }
        self.wait_seconds.observe(waited.clamp(0.0, LONGEST_WAIT));
    }

    /// Registers everything under the names an operator sees.
    pub fn register(&self, registry: &mut Registry) {
        let saga = registry.sub_registry_with_prefix("saga");
        saga.register("started", "Sagas that began, counted by the participant that ends them", self.started.clone());
        saga.register("finished", "Sagas that ended, by outcome", self.finished.clone());
        let help = "Time from the beginning of a saga to its end, by outcome";
        saga.register_with_unit("duration", help, Unit::Seconds, self.duration_seconds.clone());
        saga.register("compensations", "Events that ran a compensation", self.compensations.clone());
        let help = "Failed attempts of a compensation";
        saga.register("compensations_failed", help, self.compensations_failed.clone());
        let help = "Compensations that were dead-lettered: what the step did stays done until an operator acts";
        saga.register("compensations_dead_lettered", help, self.compensations_dead_lettered.clone());
        let help =
            "Compensations at best effort that failed for good: what the step did stays done, and the saga went on";
        saga.register("compensations_failed_for_good", help, self.compensations_failed_for_good.clone());
        let help = "Time from the publishing of an event until it was taken";
        saga.register_with_unit("event_wait", help, Unit::Seconds, self.wait_seconds.clone());
        let help = "Events whose own time is more than 30 days ago or an hour ahead";
        saga.register("event_time_implausible", help, self.implausible_times.clone());
        let help = "Time that a handler took for its events of one transaction";
        saga.register_with_unit("handler_duration", help, Unit::Seconds, self.handler_seconds.clone());
        let help = "Time that a call to an outside system took";
        saga.register_with_unit("effect_duration", help, Unit::Seconds, self.effect_seconds.clone());
        let help = "Time from the writing of an outbox row until the broker acknowledged it";
        saga.register_with_unit("relay_latency", help, Unit::Seconds, self.relay_seconds.clone());
        saga.register("events_handled", "Events that ran a step or a compensation", self.handled.clone());
        saga.register("rounds", "Checkpoints of steps that run again later", self.rounds.clone());
        saga.register(
            "null_compensations",
            "Compensations that had nothing to compensate",
            self.null_compensations.clone(),
        );
        saga.register("late_actions", "Actions that came after their compensation and were skipped", self.late.clone());
        saga.register("duplicates", "Events that had been handled before and were skipped", self.duplicates.clone());
        let help = "Events skipped because their step had run for another of the events that start it";
        saga.register("alternatives", help, self.alternatives.clone());
        let help = "Events skipped because another event of their type, with another id, had run their step before";
        saga.register("repetitions", help, self.repetitions.clone());
        saga.register("events_passed_over", "Events of a type that is not consumed here", self.passed_over.clone());
        saga.register("dead_letters", "Dead letters published, by reason", self.dead_letters.clone());
        saga.register("retries", "Failed attempts that will be made again", self.retries.clone());
        saga.register("effect_calls", "Calls to an outside system", self.effect_calls.clone());
        saga.register("deadlines_armed", "Deadlines armed", self.deadlines_armed.clone());
        saga.register("deadlines_fired", "Deadlines that published their event", self.deadlines_fired.clone());
        saga.register("events_published", "Events acknowledged by the broker", self.published.clone());
        saga.register("rebalances", "Changes of the assigned partitions", self.rebalances.clone());
        saga.register("events_in_flight", "Events taken from the broker and not settled yet", self.in_flight.clone());
        saga.register("breaker_open", "Whether a step's circuit breaker is open", self.breaker_open.clone());
        saga.register_with_unit(
            "transaction_duration",
            "Time from BEGIN to COMMIT of a batch",
            Unit::Seconds,
            self.transaction_seconds.clone(),
        );
        saga.register("batch_events", "Events that shared a transaction", self.batch_events.clone());
    }
}

/// The label of how a saga ended, with an event that follows from a failed compensation or not.
pub(crate) fn outcome(ending: Ending, partly_compensated: bool) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Compensated if partly_compensated => "partly_compensated",
        Ending::Compensated => "compensated",
    }
}

/// The label of a half of a step.
pub(crate) fn op_name(op: Op) -> &'static str {
    match op {
        Op::Action => "action",
        Op::Compensate => "compensate",
    }
}

/// Makes the participant's counters appear with 0, since Prometheus does not see the first increase of a counter that appears
/// with it. Histograms and handler outcomes need no 0.
pub(crate) fn appear<S: Store>(metrics: &Metrics, participant: &Participant<S>) {
    for reason in Reason::ALL {
        zero(&metrics.dead_letters, &ReasonLabel { reason: reason.as_str() });
    }
    if participant.ends_sagas() {
        for (ending, partly) in [(Ending::Completed, false), (Ending::Compensated, false), (Ending::Compensated, true)]
        {
            zero(&metrics.finished, &OutcomeLabel { outcome: outcome(ending, partly) });
        }
    }
    for step in &participant.steps {
        let name = step.spec.name;
        let of_step = StepOnly { step: name };
        zero(&metrics.rounds, &of_step);
        for op in [Op::Action, Op::Compensate] {
            let Some(half) = step.half(op) else { continue };
            let of_half = StepLabel { step: name, op: op_name(op) };
            zero(&metrics.retries, &of_half);
            zero(&metrics.duplicates, &of_half);
            zero(&metrics.alternatives, &of_half);
            zero(&metrics.repetitions, &of_half);
            if op == Op::Compensate {
                zero(&metrics.compensations, &of_step);
                zero(&metrics.compensations_failed, &of_step);
                zero(&metrics.compensations_dead_lettered, &of_step);
                zero(&metrics.compensations_failed_for_good, &of_step);
                zero(&metrics.null_compensations, &of_half);
            } else if step.compensation.is_some() {
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
