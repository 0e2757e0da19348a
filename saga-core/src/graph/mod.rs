//! The choreography: all participants' declarations together, as data that is checked, drawn and watched.

mod causality;
pub mod check;
mod choreography;
mod emits;
mod json;
mod mermaid;
mod node;
mod state;
mod together;
mod triggers;

#[cfg(test)]
pub(crate) mod fixture;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{event::EventType, store::TimerKind};

pub use check::{Finding, Rule};
pub use choreography::{Choreography, Edge, EventKey, EventNode, Target};
pub use emits::Emits;
pub use json::DeclarationError;
pub use node::{How, Node, NodeKind, NodeOutcome, Publication};
pub use state::{Expected, Joining, Observed, SagaState, SagaStatus, Wait};
pub use triggers::Triggers;

/// One participant's declarations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The participant's name, which is also its consumer group.
    pub participant: &'static str,
    /// Its steps.
    pub steps: Vec<StepSpec>,
    /// Events that it publishes outside any step: a request over HTTP, say. They may start a saga.
    pub publishes: Vec<EventType>,
    /// Events that end a saga and need no consumer.
    pub ends: Vec<End>,
    /// Accepted findings about this participant.
    pub accepted: Vec<Accepted>,
    /// Whether no saga waits for it: see [`Participant::optional`](crate::Participant::optional).
    pub optional: bool,
}

/// A finding that a team accepts: findings of this rule about the participant are not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The rule.
    pub rule: Rule,
    /// The reason.
    pub why: &'static str,
}

/// An event that ends a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The event.
    pub event: EventType,
    /// How the saga ends with it.
    pub ending: Ending,
}

/// How a saga ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every step succeeded.
    Completed,
    /// Every step that succeeded was compensated.
    #[serde(alias = "undone")]
    Compensated,
}

/// A step as declared by its handlers' signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpec {
    /// Unique within the participant.
    pub name: &'static str,
    /// What starts it.
    pub triggers: Triggers,
    /// Published on success.
    pub success: Emits,
    /// Published on refusal.
    pub refusal: Emits,
    /// Its compensation.
    pub compensation: Option<CompensationSpec>,
    /// How long the participant waits after it.
    pub deadline: Option<DeadlineSpec>,
    /// How long the participant waits from it until the end of the saga.
    pub saga_deadline: Option<DeadlineSpec>,
    /// Joins only: how long the step waits for its other parts after the first arrival.
    pub arrivals_deadline: Option<DeadlineSpec>,
    /// How many rounds it may take; none for a step that runs once.
    pub rounds: Option<u32>,
    /// Whether it calls the outside world.
    pub effect: bool,
    /// Whether this step is the pivot: after it, the saga can only go forward.
    pub pivot: bool,
    /// Whether its retries are never used up ([`RetryPolicy::until_it_succeeds`](crate::RetryPolicy::until_it_succeeds)).
    pub until_it_succeeds: bool,
}

impl StepSpec {
    /// Its deadlines.
    pub fn deadlines(&self) -> impl Iterator<Item = (TimerKind, &DeadlineSpec)> {
        TimerKind::ALL.into_iter().filter_map(|kind| Some((kind, self.deadline_of(kind)?)))
    }

    /// The deadline of this kind.
    pub fn deadline_of(&self, kind: TimerKind) -> Option<&DeadlineSpec> {
        match kind {
            TimerKind::Step => self.deadline.as_ref(),
            TimerKind::Arrivals => self.arrivals_deadline.as_ref(),
            TimerKind::Saga => self.saga_deadline.as_ref(),
        }
    }
}

/// A compensation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompensationSpec {
    /// The handler's name.
    pub name: &'static str,
    /// What starts it.
    pub triggers: Triggers,
    /// Published when compensated, also by a null compensation.
    pub event: EventType,
    /// Whether it calls the outside world.
    pub effect: bool,
    /// Whether its saga goes on without it when it fails for good.
    pub best_effort: bool,
}

/// A durable deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlineSpec {
    /// How long, unless the handler decides it for a saga.
    pub after: Duration,
    /// Published when the deadline passes, unless the wait has ended.
    pub event: EventType,
}
