//! The structural rules of a choreography, checked on the declarations alone.
//!
//! A finding is reported at its cause: what only follows from another finding is left out until that one is repaired.

mod cancellation;
mod compensation;
mod contracts;
mod forward;
mod joins;
mod optional;
mod paths;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use crate::graph::{Accepted, Choreography, Declaration, EventKey, Node};

/// A rule that every choreography must keep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A participant's name is its consumer group: two participants of one name would share its events.
    ParticipantsAreDistinct,
    /// A step's name is part of its barrier rows and of the ids of its events.
    StepsAreNamed,
    /// An event and its version mean the same topic and data to every participant.
    EventsAgree,
    /// The runtime passes an event to one action or compensation of a participant.
    OneStepPerEvent,
    /// A step runs once in a saga, so of two events of one type that a step publishes at once, the second starts nothing.
    EventsArePublishedOnce,
    /// An arrival is of one part of a join.
    JoinPartsAreDistinct,
    /// A join over branches that exclude each other waits for ever.
    JoinsCanComplete,
    /// A step runs once in a saga, so of several events that start it and all happen, it ignores all but the first.
    AlternativesAreExclusive,
    /// A step whose trigger is never published never runs.
    ConsumedIsPublished,
    /// An event without a consumer is a forgotten consumer, or an end that is not declared as one.
    PublishedIsConsumed,
    /// A refusal without a consumer leaves everything before it in effect.
    RefusalsAreAnswered,
    /// Every step before the pivot that may have to be compensated can be.
    StepsCanBeCompensated,
    /// A compensation works only when each later refusal and cancellation leads to it.
    CompensationsAreReached,
    /// After the pivot nothing is compensated.
    PivotIsFinal,
    /// When a cancellation compensates a step before it closes the last step before the pivot, events in flight can still
    /// complete the saga.
    CancellationsEnterLast,
    /// After the pivot a saga can only go forward, so a step there is owed as a compensation is: it is retried until it succeeds.
    ForwardStepsAreRetried,
    /// A participant that waits for others needs a limit on its wait.
    WaitsHaveDeadlines,
    /// A deadline until the end of the saga is disarmed by an end that its participant declares.
    SagaDeadlinesEnd,
    /// A step runs once in a saga, so a cycle of steps stops silently in its second round.
    StepsDoNotCycle,
    /// Every path of a saga reaches an end.
    PathsEnd,
    /// The failure of an optional participant stops nothing only when no saga waits for it.
    OptionalIsNotAwaited,
    /// A step's name is a key in the participant's database. Only that database can say whether a step was renamed: a service
    /// checks this when it starts, see [`Participant::declare_to`](crate::Participant::declare_to).
    StepsKeepTheirNames,
    /// An acceptance without its finding would hide a later finding of the same rule.
    AcceptedIsFound,
}

impl Rule {
    /// Every rule that declarations alone are checked by, in this order.
    pub const ALL: [Self; 22] = [
        Self::ParticipantsAreDistinct,
        Self::StepsAreNamed,
        Self::EventsAgree,
        Self::OneStepPerEvent,
        Self::EventsArePublishedOnce,
        Self::JoinPartsAreDistinct,
        Self::JoinsCanComplete,
        Self::AlternativesAreExclusive,
        Self::ConsumedIsPublished,
        Self::PublishedIsConsumed,
        Self::RefusalsAreAnswered,
        Self::StepsCanBeCompensated,
        Self::CompensationsAreReached,
        Self::PivotIsFinal,
        Self::CancellationsEnterLast,
        Self::ForwardStepsAreRetried,
        Self::WaitsHaveDeadlines,
        Self::SagaDeadlinesEnd,
        Self::StepsDoNotCycle,
        Self::PathsEnd,
        Self::OptionalIsNotAwaited,
        Self::AcceptedIsFound,
    ];

    /// The rule of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::StepsKeepTheirNames]).find(|rule| rule.name() == name)
    }

    /// Whether the rule can be checked on one participant without the others.
    fn judges_one(self) -> bool {
        matches!(
            self,
            Self::StepsAreNamed
                | Self::EventsAgree
                | Self::OneStepPerEvent
                | Self::EventsArePublishedOnce
                | Self::JoinPartsAreDistinct
                | Self::WaitsHaveDeadlines
                | Self::SagaDeadlinesEnd
                | Self::StepsDoNotCycle
                | Self::OptionalIsNotAwaited
        )
    }

    /// The rule's name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ParticipantsAreDistinct => "participants-are-distinct",
            Self::StepsAreNamed => "steps-are-named",
            Self::EventsAgree => "events-agree",
            Self::OneStepPerEvent => "one-step-per-event",
            Self::EventsArePublishedOnce => "events-are-published-once",
            Self::JoinPartsAreDistinct => "join-parts-are-distinct",
            Self::JoinsCanComplete => "joins-can-complete",
            Self::AlternativesAreExclusive => "alternatives-are-exclusive",
            Self::ConsumedIsPublished => "consumed-is-published",
            Self::PublishedIsConsumed => "published-is-consumed",
            Self::RefusalsAreAnswered => "refusals-are-answered",
            Self::StepsCanBeCompensated => "steps-can-be-compensated",
            Self::CompensationsAreReached => "compensations-are-reached",
            Self::PivotIsFinal => "pivot-is-final",
            Self::CancellationsEnterLast => "cancellations-enter-last",
            Self::ForwardStepsAreRetried => "forward-steps-are-retried",
            Self::WaitsHaveDeadlines => "waits-have-deadlines",
            Self::SagaDeadlinesEnd => "saga-deadlines-end",
            Self::StepsDoNotCycle => "steps-do-not-cycle",
            Self::PathsEnd => "paths-end",
            Self::OptionalIsNotAwaited => "optional-is-not-awaited",
            Self::StepsKeepTheirNames => "steps-keep-their-names",
            Self::AcceptedIsFound => "accepted-is-found",
        }
    }

    /// What holds when the rule is kept, as a sentence.
    pub fn promise(self) -> &'static str {
        match self {
            Self::ParticipantsAreDistinct => "every participant has a name of its own",
            Self::StepsAreNamed => "every step has a name of its own within its participant",
            Self::EventsAgree => "every event has one topic and one schema, in all declarations",
            Self::OneStepPerEvent => "every event starts at most one step or compensation in a participant",
            Self::EventsArePublishedOnce => "no step publishes two events of one type at once",
            Self::JoinPartsAreDistinct => "no join waits for one event in two parts",
            Self::JoinsCanComplete => "every join waits for events that happen in one saga",
            Self::AlternativesAreExclusive => {
                "no step starts with the first of several events that all happen in one saga"
            }
            Self::ConsumedIsPublished => "every event that is consumed is published by a participant",
            Self::PublishedIsConsumed => "every event that is published is consumed by a participant, or ends the saga",
            Self::RefusalsAreAnswered => "every refusal is consumed by a participant",
            Self::StepsCanBeCompensated => {
                "every step before the pivot that may have to be compensated has a compensation"
            }
            Self::CompensationsAreReached => "every compensation is reached from every later refusal and cancellation",
            Self::PivotIsFinal => "no event after the pivot leads to a compensation",
            Self::CancellationsEnterLast => "every cancellation enters at the last step before the pivot",
            Self::ForwardStepsAreRetried => "every step after the pivot is retried until it succeeds",
            Self::WaitsHaveDeadlines => "every participant that waits has a deadline",
            Self::SagaDeadlinesEnd => "every deadline until the end can be ended by its participant",
            Self::StepsDoNotCycle => "no step leads back to itself",
            Self::PathsEnd => "every path ends in a declared end",
            Self::OptionalIsNotAwaited => "no saga waits for an optional participant",
            Self::StepsKeepTheirNames => "every step keeps the name under which the database knows it",
            Self::AcceptedIsFound => "every finding that is accepted is still there",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A broken rule, the place where it is broken, and a repair.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The participant that breaks it.
    pub participant: &'static str,
    /// Its step.
    pub step: Option<&'static str>,
    /// The event's name.
    pub event: Option<&'static str>,
    /// What is wrong and how to repair it.
    pub message: String,
}

impl Finding {
    fn in_participant(rule: Rule, participant: &'static str, message: String) -> Self {
        Self { rule, participant, step: None, event: None, message }
    }

    fn at(rule: Rule, node: &Node, message: String) -> Self {
        Self { step: Some(node.step), ..Self::in_participant(rule, node.participant, message) }
    }

    fn about(mut self, event: EventKey) -> Self {
        self.event = Some(event.name);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}: {}", self.rule, self.participant, self.message)
    }
}

impl Declaration {
    /// Checks the rules that one participant can be judged by: two steps of one name or on one event, declarations of
    /// one event that differ, two events of one type at once, a wait without a deadline for its own events, a step that leads
    /// back to itself, an optional participant that ends sagas or has a pivot. A participant with findings cannot work.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Choreography::of(vec![self.clone()]).check();
        findings.retain(|finding| finding.rule.judges_one());
        findings
    }
}

/// Finds where a flow breaks one rule.
type Check = fn(&Choreography) -> Vec<Finding>;

impl Choreography {
    /// Checks every [`Rule`]. No findings means that the declarations fit together, or that the remaining findings are
    /// accepted. The model checker covers the interleavings.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = self.found();
        let stale = self.acceptances().filter(|(participant, accepted)| {
            // What only a database can say is accepted until every instance has said it once.
            accepted.rule != Rule::StepsKeepTheirNames
                && !findings.iter().any(|finding| finding.participant == *participant && finding.rule == accepted.rule)
        });
        let stale: Vec<Finding> = stale
            .map(|(participant, Accepted { rule, why })| {
                let message = format!("{rule} is accepted ({why}), but there is no such finding: remove .accept(..)");
                Finding::in_participant(Rule::AcceptedIsFound, participant, message)
            })
            .collect();
        findings.retain(|finding| self.why_accepted(finding).is_none());
        findings.extend(stale);
        findings
    }

    /// The accepted findings, with their reasons.
    pub fn accepted(&self) -> Vec<(Finding, &'static str)> {
        self.found().into_iter().filter_map(|finding| self.why_accepted(&finding).map(|why| (finding, why))).collect()
    }

    fn acceptances(&self) -> impl Iterator<Item = (&'static str, Accepted)> {
        self.declarations().iter().flat_map(|d| d.accepted.iter().map(|accepted| (d.participant, *accepted)))
    }

    fn why_accepted(&self, finding: &Finding) -> Option<&'static str> {
        let concerns = |(participant, accepted): &(&str, Accepted)| {
            *participant == finding.participant && accepted.rule == finding.rule
        };
        self.acceptances().find(concerns).map(|(_, accepted)| accepted.why)
    }

    fn found(&self) -> Vec<Finding> {
        // What a saga depends on.
        let required = self.required();
        let rules: [(&Self, Check); 21] = [
            (self, contracts::participants_are_distinct),
            (self, contracts::steps_are_named),
            (self, contracts::events_agree),
            (self, contracts::one_step_per_event),
            (self, contracts::events_are_published_once),
            (self, joins::join_parts_are_distinct),
            (&required, joins::joins_can_complete),
            (self, joins::alternatives_are_exclusive),
            (self, contracts::consumed_is_published),
            (&required, contracts::published_is_consumed),
            (&required, compensation::refusals_are_answered),
            (&required, compensation::steps_can_be_compensated),
            (&required, compensation::compensations_are_reached),
            (&required, compensation::pivot_is_final),
            (&required, cancellation::cancellations_enter_last),
            (&required, forward::forward_steps_are_retried),
            (&required, paths::waits_have_deadlines),
            (self, paths::saga_deadlines_end),
            (self, paths::steps_do_not_cycle),
            (&required, paths::paths_end),
            (self, optional::optional_is_not_awaited),
        ];
        rules.into_iter().flat_map(|(flow, rule)| rule(flow)).collect()
    }

    /// Whether the event is dropped: it has no consumer and is not a declared end. That is a finding of its own.
    fn is_dropped(&self, event: EventKey) -> bool {
        self.is_unanswered(event) && !self.offered.contains(&event)
    }

    /// Whether no saga goes on with the event: it has no consumer but optional ones, and is not a declared end.
    fn is_unanswered(&self, event: EventKey) -> bool {
        self.end(event).is_none() && self.consumers(event).next().is_none()
    }
}

/// `a`, `a and b`, `a, b and c`.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    match items.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}
