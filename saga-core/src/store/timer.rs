//! Durable timers: what the runtime arms and disarms, and what it reads back.

use std::time::Duration;

use jiff::Timestamp;

use crate::{event::SagaId, trace::TraceContext};

/// What a timer waits for. A step may have one timer of each kind in a saga.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TimerKind {
    /// The participant's next action in the saga.
    Step,
    /// The arrivals that a join still waits for.
    Arrivals,
    /// The end of the saga at this participant.
    Saga,
}

impl TimerKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Step, Self::Arrivals, Self::Saga];

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Arrivals => "arrivals",
            Self::Saga => "saga",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A durable timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The saga that waits.
    pub saga_id: SagaId,
    /// The step that armed it.
    pub step: &'static str,
    /// What it waits for.
    pub kind: TimerKind,
    /// The delay after which it fires.
    pub after: Duration,
    /// The W3C trace context of the event that armed it: `traceparent`, then `tracestate`.
    pub trace: TraceContext,
}

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTimer {
    /// The saga that waits.
    pub saga_id: SagaId,
    /// The step that armed it.
    pub step: String,
    /// What it waits for.
    pub kind: TimerKind,
    /// When it was due, by the database's clock.
    pub due: Timestamp,
    /// See [`Timer::trace`].
    pub trace: TraceContext,
}

/// Timers of a saga that are disarmed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disarm {
    /// The saga.
    pub saga_id: SagaId,
    /// Those that this step armed; none for those of all steps.
    pub step: Option<&'static str>,
    /// Those of this kind; none for all kinds.
    pub kind: Option<TimerKind>,
}

impl Disarm {
    /// The waits for the participant's next action.
    pub fn waits(saga_id: SagaId) -> Self {
        Self { saga_id, step: None, kind: Some(TimerKind::Step) }
    }

    /// All timers of the saga.
    pub fn all(saga_id: SagaId) -> Self {
        Self { saga_id, step: None, kind: None }
    }

    /// The timer of this kind that this step armed.
    pub fn one(saga_id: SagaId, step: &'static str, kind: TimerKind) -> Self {
        Self { saga_id, step: Some(step), kind: Some(kind) }
    }

    /// Whether the timer is one of these.
    pub fn includes(&self, timer: &DueTimer) -> bool {
        self.saga_id == timer.saga_id
            && self.step.is_none_or(|step| step == timer.step)
            && self.kind.is_none_or(|kind| kind == timer.kind)
    }
}
