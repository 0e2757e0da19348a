//! The history of one saga, built from its records: the timeline and the current status.

use std::collections::BTreeSet;

use jiff::Timestamp;
use saga_core::{
    graph::{Choreography, EventKey, Node, NodeKind, Observed, SagaState, SagaStatus},
    store::TimerKind,
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    causal_order::{CausalOrder, event},
    timeline::{FirstSeen, TimelineBuilder, is_about, ms_between},
    timeline_entry::{EntryKind, TimelineEntry},
};
use crate::{
    dead_letter::DeadLetter,
    observed_record::{ObservedRecord, RecordContent},
    producing_step::declared_event,
};

/// The status of a saga.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Completed,
    /// Ended with every completed step compensated.
    Compensated,
    /// Ended as compensated, without a compensation that failed for good.
    PartlyCompensated,
    Unfinished,
    /// Both ends were published.
    Contradictory,
    /// The saga belongs to another flow.
    Unknown,
}

/// A step that is expected to publish next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ExpectedStep {
    pub(crate) participant: &'static str,
    pub(crate) step: &'static str,
    pub(crate) kind: NodeKind,
    pub(crate) on: &'static str,
    /// Every event that it may publish next.
    pub(crate) one_of: Vec<&'static str>,
    /// The sets of events of which it publishes one.
    pub(crate) alternatives: Vec<Vec<&'static str>>,
    pub(crate) since: Timestamp,
    /// The reason of the dead letter that blocks the step.
    pub(crate) blocked_by: Option<String>,
}

/// A join some of whose parts have arrived.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct WaitingJoin {
    pub(crate) participant: &'static str,
    pub(crate) step: &'static str,
    pub(crate) kind: NodeKind,
    /// The first event of each part that has arrived.
    pub(crate) arrived: Vec<&'static str>,
    /// The parts that have not arrived, each with the events of which one suffices.
    pub(crate) waits_for: Vec<Vec<&'static str>>,
    /// The time of the first arrival.
    pub(crate) since: Timestamp,
    /// The reason of the dead letter of one of its events, which blocks it.
    pub(crate) blocked_by: Option<String>,
}

/// A compensation that failed for good: what its step did is still in place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct FailedCompensation {
    pub(crate) participant: String,
    /// The step that is not compensated; none when the flow does not know it.
    pub(crate) step: Option<&'static str>,
    /// The event that says so.
    pub(crate) event: String,
    pub(crate) at: Timestamp,
}

/// A running deadline.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Deadline {
    pub(crate) participant: &'static str,
    /// The step that began the wait.
    pub(crate) step: &'static str,
    pub(crate) event: &'static str,
    /// The default that the flow declares, in seconds.
    pub(crate) declared_s: f64,
    pub(crate) at: Timestamp,
    /// What ends the wait: the participant's next `step`, the other `arrivals` of the join, or the end of the `saga`.
    pub(crate) waits_for: &'static str,
}

/// A trace that contains the saga or a part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TraceReference {
    pub(crate) id: String,
    /// Whether an event carries the id.
    pub(crate) is_carried: bool,
}

/// The history of one saga.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct SagaHistory {
    pub(crate) saga_id: Uuid,
    pub(crate) status: Status,
    /// Whether an unfinished saga is compensating.
    pub(crate) is_compensating: bool,
    pub(crate) ended_by: Option<&'static str>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    /// Milliseconds from start to end; none when either is unknown.
    pub(crate) took_ms: Option<f64>,
    pub(crate) expected: Vec<ExpectedStep>,
    pub(crate) joins: Vec<WaitingJoin>,
    pub(crate) deadlines: Vec<Deadline>,
    pub(crate) dead_letters: usize,
    pub(crate) failed_compensations: Vec<FailedCompensation>,
    /// Event types that the flow does not know.
    pub(crate) unknown_events: Vec<String>,
    #[serde(skip)]
    pub(crate) traces: Vec<TraceReference>,
    pub(crate) timeline: Vec<TimelineEntry>,
}

/// Builds a saga's history from its records, given in any order.
pub(crate) fn history_of(flow: &Choreography, saga_id: Uuid, mut observed: Vec<ObservedRecord>) -> SagaHistory {
    // The order in the topics distinguishes an event from its duplicate.
    observed.sort_by(|a, b| {
        (a.written, &a.topic, a.partition, a.offset).cmp(&(b.written, &b.topic, b.partition, b.offset))
    });
    let order = CausalOrder::of(&observed);
    let mut indices: Vec<usize> = (0..observed.len()).collect();
    indices.sort_by_key(|index| order.key(*index));

    let mut builder = TimelineBuilder {
        flow,
        observed: &observed,
        order: &order,
        first_seen: FirstSeen::new(),
        kinds: BTreeSet::new(),
    };
    let mut timeline: Vec<TimelineEntry> = Vec::with_capacity(observed.len());
    for index in indices {
        let before = timeline.last().map(|entry| entry.at);
        timeline.push(builder.entry(index, before));
    }
    let first_seen = builder.first_seen;
    let unknown_events: BTreeSet<String> =
        timeline.iter().filter(|m| m.what == EntryKind::Event && !m.known).filter_map(|m| m.event.clone()).collect();
    let started_at = flow.entrances().iter().filter_map(|start| first_seen.get(start.name)).min().copied();
    // Two flows may use the same names, so this flow explains only its own sagas.
    let is_ours = unknown_events.is_empty() || started_at.is_some();

    let state = match is_ours {
        true => flow.state(first_seen.keys().map(|name| {
            let has_mark = |entry: &TimelineEntry| entry.partly_compensated && entry.event.as_deref() == Some(*name);
            Observed { name, partly_compensated: timeline.iter().any(has_mark) }
        })),
        false => {
            SagaState { status: SagaStatus::Forward, expected: Vec::new(), joining: Vec::new(), waits: Vec::new() }
        }
    };
    let dead_letters: Vec<&DeadLetter> = observed.iter().filter_map(dead_letter).collect();
    let blocked_by = |node: &Node| {
        let is_for_step = |dead_letter: &&&DeadLetter| is_about(dead_letter, node.participant, &node.triggers);
        dead_letters.iter().rfind(is_for_step).map(|dead_letter| dead_letter.reason.clone())
    };
    let expected = state.expected.iter().map(|expected| {
        let node = expected.node;
        // A join starts with the last of its parts.
        let on = arrivals(node, &first_seen).into_iter().max_by_key(|(_, at)| *at);
        let alternatives: Vec<Vec<&str>> =
            expected.one_of.iter().map(|events| events.iter().map(|key| key.name).collect()).collect();
        let mut one_of: Vec<&str> = Vec::new();
        for event in alternatives.iter().flatten() {
            if !one_of.contains(event) {
                one_of.push(event);
            }
        }
        ExpectedStep {
            participant: node.participant,
            step: node.name,
            kind: node.kind,
            on: on.map_or("", |(name, _)| name),
            one_of,
            alternatives,
            since: on.map(|(_, at)| at).unwrap_or_default(),
            blocked_by: blocked_by(node),
        }
    });
    let joins = state.joining.iter().map(|joining| {
        let node = joining.node;
        let mut arrived = arrivals(node, &first_seen);
        arrived.sort_by_key(|(_, at)| *at);
        WaitingJoin {
            participant: node.participant,
            step: node.name,
            kind: node.kind,
            waits_for: joining.missing.iter().map(|part| part.iter().map(|key| key.name).collect()).collect(),
            since: arrived.first().map(|(_, at)| *at).unwrap_or_default(),
            arrived: arrived.into_iter().map(|(name, _)| name).collect(),
            blocked_by: blocked_by(node),
        }
    });
    let deadlines = state.waits.iter().filter_map(|wait| {
        let arrived = arrivals(wait.node, &first_seen).into_iter().map(|(_, at)| at);
        let began = if wait.kind == TimerKind::Arrivals { arrived.min()? } else { arrived.max()? };
        let at = began.checked_add(wait.after).ok()?;
        let declared_s = wait.after.as_secs_f64();
        let (participant, step, event) = (wait.node.participant, wait.node.name, wait.event.name);
        Some(Deadline { participant, step, event, declared_s, at, waits_for: wait.kind.name() })
    });
    let end = first_seen.iter().filter(|(kind, _)| flow.events_named(kind).any(|(_, node)| node.end.is_some()));
    let end = end.min_by_key(|(_, at)| **at).filter(|_| is_ours);
    let ended_at = end.map(|(_, at)| *at);
    SagaHistory {
        saga_id,
        status: match state.status {
            SagaStatus::Completed => Status::Completed,
            SagaStatus::Compensated => Status::Compensated,
            SagaStatus::PartlyCompensated => Status::PartlyCompensated,
            SagaStatus::Contradictory => Status::Contradictory,
            SagaStatus::Forward | SagaStatus::Backward if !is_ours => Status::Unknown,
            SagaStatus::Forward | SagaStatus::Backward => Status::Unfinished,
        },
        is_compensating: state.status == SagaStatus::Backward,
        ended_by: end.map(|(kind, _)| *kind),
        started_at,
        ended_at,
        // An event that came after the end was late: then there is no duration.
        took_ms: started_at.zip(ended_at).map(|(start, end)| ms_between(start, end)).filter(|took| *took >= 0.0),
        expected: expected.collect(),
        joins: joins.collect(),
        deadlines: deadlines.collect(),
        dead_letters: dead_letters.len(),
        failed_compensations: if is_ours { failed_compensations(&timeline) } else { Vec::new() },
        unknown_events: unknown_events.into_iter().collect(),
        traces: traces(flow, saga_id, &observed),
        timeline: if is_ours { timeline } else { timeline.into_iter().map(TimelineEntry::of_another_flow).collect() },
    }
}

/// The compensations that failed for good, once each.
fn failed_compensations(timeline: &[TimelineEntry]) -> Vec<FailedCompensation> {
    let failed =
        timeline.iter().filter(|entry| entry.what == EntryKind::Event && entry.compensation_failed && !entry.again);
    let failed = failed.map(|entry| FailedCompensation {
        participant: entry.participant.clone(),
        step: entry.made_by.as_ref().and_then(|made| made.compensates),
        event: entry.event.clone().unwrap_or_default(),
        at: entry.at,
    });
    failed.collect()
}

/// The traces that events carry, and the one with the saga's id, in which events without a context are handled.
fn traces(flow: &Choreography, saga_id: Uuid, observed: &[ObservedRecord]) -> Vec<TraceReference> {
    let mut known = BTreeSet::new();
    let mut traces = Vec::new();
    let mut is_without = false;
    for event in
        observed.iter().filter_map(|observed| event(observed).or_else(|| dead_letter(observed)?.event.as_ref()))
    {
        match &event.trace_id {
            Some(id) if known.insert(id.clone()) => traces.push(TraceReference { id: id.clone(), is_carried: true }),
            Some(_) => {}
            None => is_without |= declared_event(flow, event).is_some(),
        }
    }
    let own = saga_id.simple().to_string();
    // An id of zeros is not a valid trace id.
    if is_without && !saga_id.is_nil() && !known.contains(&own) {
        traces.push(TraceReference { id: own, is_carried: false });
    }
    traces
}

/// The first event of each part of what starts the node, as far as they were observed.
fn arrivals(node: &Node, first_seen: &FirstSeen) -> Vec<(&'static str, Timestamp)> {
    let seen = |key: &EventKey| first_seen.get(key.name).map(|at| (key.name, *at));
    node.triggers.parts().filter_map(|part| part.iter().filter_map(seen).min_by_key(|(_, at)| *at)).collect()
}

fn dead_letter(observed: &ObservedRecord) -> Option<&DeadLetter> {
    if let RecordContent::DeadLetter(dead_letter) = &observed.content { Some(dead_letter) } else { None }
}
