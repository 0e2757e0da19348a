//! A saga's story, told from its records: what happened in which order, and where the saga stands.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use saga_core::graph::{Choreography, EventKey, NodeKind, Progress, SagaState};
use serde::Serialize;
use uuid::Uuid;

use super::{
    moment::{Cause, GivenUp, Kind, Made, Moment, Place},
    order::{Order, event},
};
use crate::{
    event::Event,
    letter::Letter,
    origin::{declared, origin},
    seen::{Seen, What},
};

/// How a saga stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Completed,
    /// Cancelled: everything that was done is undone.
    Undone,
    Unfinished,
    /// Both ends were seen.
    Contradictory,
    /// Of another flow.
    Unknown,
}

/// Somebody whose turn it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Awaited {
    pub(crate) participant: &'static str,
    pub(crate) step: &'static str,
    pub(crate) kind: NodeKind,
    pub(crate) on: &'static str,
    pub(crate) one_of: Vec<&'static str>,
    pub(crate) since: Timestamp,
    /// Why it will not answer by itself.
    pub(crate) given_up: Option<String>,
}

/// A deadline that runs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Deadline {
    pub(crate) participant: &'static str,
    pub(crate) event: &'static str,
    /// As the flow declares it by default.
    pub(crate) declared_s: f64,
    pub(crate) at: Timestamp,
}

/// A trace that the saga, or a part of it, is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TraceOf {
    pub(crate) id: String,
    /// Whether an event says so.
    pub(crate) is_carried: bool,
}

/// A saga's story.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Story {
    pub(crate) saga_id: Uuid,
    pub(crate) status: Status,
    /// Whether an unfinished saga is being undone.
    pub(crate) is_turning_back: bool,
    pub(crate) ended_by: Option<&'static str>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    /// None before the end, and when the start is not there.
    pub(crate) took_ms: Option<f64>,
    pub(crate) expected: Vec<Awaited>,
    pub(crate) deadlines: Vec<Deadline>,
    pub(crate) dead_letters: usize,
    /// Types that the flow does not know.
    pub(crate) unknown_events: Vec<String>,
    #[serde(skip)]
    pub(crate) traces: Vec<TraceOf>,
    pub(crate) timeline: Vec<Moment>,
}

/// When each event of the flow was first seen.
type Firsts = BTreeMap<&'static str, Timestamp>;

/// Tells the story of the saga whose records these are, in whichever order they were read.
pub(crate) fn tell(flow: &Choreography, saga_id: Uuid, mut seen: Vec<Seen>) -> Story {
    // Where they stand in their topics is the order in which consumers saw them: it tells an event from its duplicate.
    seen.sort_by(|a, b| {
        (a.written, &a.topic, a.partition, a.offset).cmp(&(b.written, &b.topic, b.partition, b.offset))
    });
    let order = Order::of(&seen);
    let mut places: Vec<usize> = (0..seen.len()).collect();
    places.sort_by_key(|place| order.key(*place));

    let mut teller = Teller { flow, seen: &seen, order: &order, firsts: Firsts::new(), kinds: BTreeSet::new() };
    let mut timeline: Vec<Moment> = Vec::with_capacity(seen.len());
    for place in places {
        let before = timeline.last().map(|moment| moment.at);
        timeline.push(teller.moment(place, before));
    }
    let firsts = teller.firsts;
    let unknown_events: BTreeSet<String> =
        timeline.iter().filter(|m| m.what == Kind::Event && !m.known).filter_map(|m| m.event.clone()).collect();
    let started_at = flow.entrances().iter().filter_map(|start| firsts.get(start.name)).min().copied();
    // Explained with this flow it would be something false: other flows may have events and participants of the same names.
    let is_ours = unknown_events.is_empty() || started_at.is_some();

    let state = match is_ours {
        true => flow.state(firsts.keys().copied()),
        false => SagaState { progress: Progress::Forward, expected: Vec::new(), waits: Vec::new() },
    };
    let letters: Vec<&Letter> = seen.iter().filter_map(letter).collect();
    let expected = state.expected.iter().map(|expected| {
        let node = expected.node;
        let since = |trigger: &&EventKey| firsts.get(trigger.name).copied();
        let on = node.triggers.iter().filter(|trigger| since(trigger).is_some()).min_by_key(since);
        let gave_up = |letter: &&&Letter| is_about(letter, node.participant, &node.triggers);
        Awaited {
            participant: node.participant,
            step: node.name,
            kind: node.kind,
            on: on.map_or("", |trigger| trigger.name),
            one_of: expected.one_of.iter().map(|key| key.name).collect(),
            since: on.as_ref().and_then(since).unwrap_or_default(),
            given_up: letters.iter().rfind(gave_up).map(|letter| letter.reason.clone()),
        }
    });
    let deadlines = state.waits.iter().filter_map(|wait| {
        let began = wait.node.triggers.iter().filter_map(|trigger| firsts.get(trigger.name)).min()?;
        let at = began.checked_add(wait.after).ok()?;
        let declared_s = wait.after.as_secs_f64();
        Some(Deadline { participant: wait.node.participant, event: wait.event.name, declared_s, at })
    });
    let end = firsts.iter().filter(|(kind, _)| flow.events_named(kind).any(|(_, node)| node.end.is_some()));
    let end = end.min_by_key(|(_, at)| **at).filter(|_| is_ours);
    let ended_at = end.map(|(_, at)| *at);
    Story {
        saga_id,
        status: match state.progress {
            Progress::Completed => Status::Completed,
            Progress::Compensated => Status::Undone,
            Progress::Contradictory => Status::Contradictory,
            Progress::Forward | Progress::Backward if !is_ours => Status::Unknown,
            Progress::Forward | Progress::Backward => Status::Unfinished,
        },
        is_turning_back: state.progress == Progress::Backward,
        ended_by: end.map(|(kind, _)| *kind),
        started_at,
        ended_at,
        took_ms: started_at.zip(ended_at).map(|(start, end)| ms_between(start, end)),
        expected: expected.collect(),
        deadlines: deadlines.collect(),
        dead_letters: letters.len(),
        unknown_events: unknown_events.into_iter().collect(),
        traces: traces(flow, saga_id, &seen),
        timeline: if is_ours { timeline } else { timeline.into_iter().map(Moment::of_another_flow).collect() },
    }
}

/// Those that events carry, and that in which events without a context are handled.
fn traces(flow: &Choreography, saga_id: Uuid, seen: &[Seen]) -> Vec<TraceOf> {
    let mut known = BTreeSet::new();
    let mut traces = Vec::new();
    let mut is_without = false;
    for event in seen.iter().filter_map(|seen| event(seen).or_else(|| letter(seen)?.event.as_ref())) {
        match &event.trace_id {
            Some(id) if known.insert(id.clone()) => traces.push(TraceOf { id: id.clone(), is_carried: true }),
            Some(_) => {}
            None => is_without |= declared(flow, event).is_some(),
        }
    }
    let own = saga_id.simple().to_string();
    // Nothing but zeros is no trace's id.
    if is_without && !saga_id.is_nil() && !known.contains(&own) {
        traces.push(TraceOf { id: own, is_carried: false });
    }
    traces
}

fn ms_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

/// Whether the participant gave up on one of these events.
fn is_about(letter: &Letter, participant: &str, triggers: &[EventKey]) -> bool {
    let event = letter.event.as_ref();
    letter.is_of(participant) && event.is_some_and(|e| triggers.iter().any(|trigger| trigger.name == e.kind))
}

fn letter(seen: &Seen) -> Option<&Letter> {
    if let What::Letter(letter) = &seen.what { Some(letter) } else { None }
}

struct Teller<'a> {
    flow: &'a Choreography,
    seen: &'a [Seen],
    order: &'a Order<'a>,
    firsts: Firsts,
    kinds: BTreeSet<&'a str>,
}

impl<'a> Teller<'a> {
    fn moment(&mut self, place: usize, before: Option<Timestamp>) -> Moment {
        let seen = &self.seen[place];
        let (at, ..) = self.order.key(place);
        let data = seen.value.as_deref().map(|v| serde_json::from_slice(v).unwrap_or_else(|_| lossy(v)));
        let moment = Moment {
            at,
            since_previous_ms: before.map_or(0.0, |before| ms_between(before, at)),
            what: Kind::Unreadable,
            participant: String::new(),
            event: None,
            version: None,
            event_id: None,
            known: false,
            again: false,
            null_compensation: false,
            reason: None,
            made_by: None,
            caused_by: None,
            dead_letter: None,
            fault: None,
            record: Place { topic: seen.topic.to_string(), partition: seen.partition, offset: seen.offset },
            data,
        };
        match &seen.what {
            What::Event(event) => self.event(place, event, moment),
            What::Letter(letter) => self.letter(letter, moment),
            What::Unreadable { kind, poison } => {
                Moment { event: kind.clone(), fault: Some(format!("{}: {poison}", poison.reason.as_str())), ..moment }
            }
        }
    }

    fn event(&mut self, place: usize, event: &'a Event, moment: Moment) -> Moment {
        let key = declared(self.flow, event);
        let is_duplicate = self.order.is_duplicate(place);
        let cause = event.cause.as_deref().map(|id| Cause {
            event_id: id.to_owned(),
            event: self.order.original(id).map(|event| event.kind.clone()),
        });
        let caused_by = cause.as_ref().and_then(|cause| cause.event.as_deref());
        let made = key.and_then(|_| origin(self.flow, event, caused_by));
        let made_by = made.map(|(node, how)| Made {
            step: node.name,
            kind: node.kind,
            how,
            undoes: (node.kind == NodeKind::Compensation).then_some(node.step),
        });
        let again = !is_duplicate && !self.kinds.insert(&event.kind);
        if let (Some(key), false) = (key, is_duplicate) {
            self.firsts.entry(key.name).or_insert(moment.at);
        }
        Moment {
            what: if is_duplicate { Kind::Duplicate } else { Kind::Event },
            participant: event.source.clone(),
            event: Some(event.kind.clone()),
            version: Some(event.version),
            event_id: Some(event.id.clone()),
            known: key.is_some(),
            again,
            null_compensation: event.null,
            reason: event.reason.clone(),
            made_by,
            caused_by: cause,
            ..moment
        }
    }

    fn letter(&self, letter: &Letter, moment: Moment) -> Moment {
        let event = letter.event.as_ref();
        let consumes = |node: &&saga_core::graph::Node| is_about(letter, node.participant, &node.triggers);
        let mut steps = self.flow.nodes().iter().filter(consumes).map(|node| (node.name, node.publishes.is_empty()));
        // Of several the one that answers: the others leave no trace in Kafka.
        let step = steps.clone().find(|(_, is_quiet)| !is_quiet).or_else(|| steps.next()).map(|(name, _)| name);
        Moment {
            what: Kind::DeadLetter,
            participant: letter.participant.clone(),
            event: event.map(|event| event.kind.clone()),
            version: event.map(|event| event.version),
            event_id: event.map(|event| event.id.clone()),
            known: event.is_some_and(|event| declared(self.flow, event).is_some()),
            dead_letter: Some(GivenUp {
                reason: letter.reason.clone(),
                message: letter.message.clone(),
                attempts: letter.attempts,
                first_failed_at: letter.first_failed_at,
                topic: letter.topic.clone(),
                partition: letter.partition,
                offset: letter.offset,
                step,
            }),
            ..moment
        }
    }
}

/// Data that is no JSON, as far as it is text.
fn lossy(value: &[u8]) -> serde_json::Value {
    String::from_utf8_lossy(value).into_owned().into()
}
