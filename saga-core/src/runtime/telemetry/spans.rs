//! The spans that the runtime records of its work, under the names that OpenTelemetry has for messaging.
//!
//! The span of an event's handling is a child of the context in the event, which its publisher's span put there: that is
//! what makes a saga one trace. Events that share a transaction each have it in their own trace.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;

use crate::runtime::in_flight::{InFlight, TakenFrom};
use crate::{
    barrier::Op,
    event::SagaId,
    record::Record,
    store::OutboxRow,
    trace::{Ids, Kind, NewSpan, Span, TraceContext, Tracer, UserSpans, Value},
    transport::MessagingNames,
};

/// One participant's spans.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    tracer: Arc<dyn Tracer>,
    participant: &'static str,
    names: MessagingNames,
}

static NOWHERE: TraceContext = TraceContext { traceparent: None, tracestate: None };

type Attributes = Vec<(&'static str, Value)>;

/// A span of which all is known but its place.
struct Finished {
    kind: Kind,
    name: Cow<'static, str>,
    start: Timestamp,
    end: Timestamp,
    attributes: Attributes,
    link: Option<TraceContext>,
    error: Option<String>,
}

/// How an event's handling ended.
pub(crate) struct HandlingOutcome<'a> {
    /// `success`, `refused`, `null_compensation`, `parked` and so on.
    pub(crate) outcome: &'static str,
    pub(crate) error: Option<&'a str>,
}

/// A published event that is not acknowledged yet.
#[derive(Debug)]
pub(crate) struct Sending {
    ids: Option<Ids>,
    link: Option<TraceContext>,
    topic: Cow<'static, str>,
    event_type: String,
    saga_id: SagaId,
    /// When its row was written.
    pub(crate) created_at: Timestamp,
    /// When it was handed to the producer.
    began: Timestamp,
}

impl Sending {
    pub(crate) fn of(row: &OutboxRow, began: Timestamp) -> Self {
        Self {
            ids: row.span,
            link: row.link.clone(),
            topic: row.record.topic.clone(),
            event_type: row.event_type.clone(),
            saga_id: row.saga_id,
            created_at: row.created_at,
            began,
        }
    }

    /// What every line that is logged about it says.
    pub(crate) fn lines(&self) -> tracing::Span {
        let trace_id = self.ids.map(|ids| format!("{:032x}", u128::from_be_bytes(ids.trace_id)));
        tracing::error_span!("send", saga_id = %self.saga_id, trace_id)
    }
}

impl Spans {
    pub(crate) fn new(tracer: Arc<dyn Tracer>, participant: &'static str, names: MessagingNames) -> Self {
        Self { tracer, participant, names }
    }

    pub(crate) fn participant(&self) -> &'static str {
        self.participant
    }

    /// A place below `parent`, or at the beginning of the saga's own trace.
    pub(crate) fn new_span(&self, parent: &TraceContext, saga_id: SagaId) -> NewSpan {
        self.tracer.new_span(parent, saga_id.as_uuid().as_u128())
    }

    /// As [`Spans::place`], below a context that came in from elsewhere.
    pub(crate) fn arrived(&self, parent: &TraceContext, saga_id: SagaId) -> NewSpan {
        self.new_span(if self.tracer.propagates() { parent } else { &NOWHERE }, saga_id)
    }

    /// Where the span of a transaction that this event has a part in is recorded.
    pub(crate) fn transaction_span(&self, event: &InFlight) -> NewSpan {
        match event.span.ids {
            Some(_) => self.new_span(&event.span.context, event.saga_id()),
            None => NewSpan::default(),
        }
    }

    /// Collects the user's own spans below these places, while the handler or the effect of this name runs.
    pub(crate) fn user(&self, name: &str, below: &[&NewSpan]) -> Option<Arc<dyn UserSpans>> {
        self.tracer.user_spans(name, below)
    }

    /// What is said of a place to others.
    pub(crate) fn outgoing<'a>(&self, span: &'a NewSpan) -> &'a TraceContext {
        if self.tracer.propagates() { &span.context } else { &NOWHERE }
    }

    fn record(&self, ids: Ids, span: Finished) {
        let Finished { kind, name, start, end, attributes, link, error } = span;
        // A clock that is set back must not make a span end before it began.
        let end = end.max(start);
        self.tracer.record(Span { ids, kind, name, start, end, attributes, links: link.into_iter().collect(), error });
    }

    /// An event was handled, from when it was taken. `parked` says that it will be tried again.
    pub(crate) fn process(&self, event: &InFlight, end: Timestamp, ending: &HandlingOutcome<'_>) {
        let Some(ids) = event.span.ids else { return };
        let mut attributes = of_record(&event.record, self.participant, self.names);
        attributes.push(("messaging.message.id", event.envelope.event_id.clone().into()));
        attributes.push(("messaging.message.conversation_id", event.saga_id().to_string().into()));
        attributes.push(("cloudevents.event_type", event.envelope.event_type.clone().into()));
        attributes.extend(of_step(event));
        attributes.push(("saga.outcome", ending.outcome.into()));
        if let Some(published) = event.envelope.time {
            attributes
                .push(("saga.waited_seconds", event.taken.duration_since(published).as_secs_f64().max(0.0).into()));
        }
        if matches!(event.origin, TakenFrom::Parked { .. }) {
            attributes.push(("saga.parked", true.into()));
        }
        let error = ending.error.map(str::to_owned);
        if error.is_some() {
            attributes.push(("error.type", ending.outcome.into()));
        }
        let name = format!("process {}", event.record.topic).into();
        self.record(
            ids,
            Finished { kind: Kind::Consumer, name, start: event.taken, end, attributes, link: None, error },
        );
    }

    /// A transaction that an event had a part in, linked to the user's own spans about all of its events.
    pub(crate) fn transaction(
        &self,
        (event, span): (&InFlight, &NewSpan),
        phase: &'static str,
        (start, end): (Timestamp, Timestamp),
        events: usize,
        link: Option<TraceContext>,
    ) {
        let Some(ids) = span.ids else { return };
        let mut attributes: Attributes = of_step(event).collect();
        attributes.push(("saga.phase", phase.into()));
        attributes.push(("saga.batch.events", i64::try_from(events).unwrap_or(i64::MAX).into()));
        let name = format!("transaction {}", event.half).into();
        self.record(ids, Finished { kind: Kind::Internal, name, start, end, attributes, link, error: None });
    }

    /// A parked event is done with: the time since it failed first.
    pub(crate) fn parked(&self, event: &InFlight, end: Timestamp) {
        let (TakenFrom::Parked { .. }, Some(start)) = (event.origin, event.failed_at) else { return };
        let Some(ids) = self.arrived(&event.envelope.trace, event.saga_id()).ids else { return };
        let attributes = of_step(event).collect();
        let name = format!("parked {}", event.half).into();
        self.record(ids, Finished { kind: Kind::Internal, name, start, end, attributes, link: None, error: None });
    }

    /// A call of an effect, recorded at its own place, which the outside system was given.
    pub(crate) fn effect(
        &self,
        event: &InFlight,
        span: &NewSpan,
        name: String,
        (start, end): (Timestamp, Timestamp),
        (result, error): (&'static str, Option<String>),
    ) {
        let Some(ids) = span.ids else { return };
        let mut attributes: Attributes = of_step(event).collect();
        attributes.push(("saga.effect.result", result.into()));
        if error.is_some() {
            attributes.push(("error.type", result.into()));
        }
        self.record(ids, Finished { kind: Kind::Client, name: name.into(), start, end, attributes, link: None, error });
    }

    /// An event was acknowledged, or was not.
    pub(crate) fn sent(&self, id: Uuid, sending: Sending, end: Timestamp, error: Option<String>) {
        let Sending { ids: Some(ids), link, topic, event_type, saga_id, began, .. } = sending else { return };
        let mut attributes = of_sending(&topic, saga_id, self.names);
        attributes.push(("messaging.message.id", id.to_string().into()));
        attributes.push(("cloudevents.event_type", event_type.into()));
        if error.is_some() {
            attributes.push(("error.type", "unacknowledged".into()));
        }
        let name = format!("send {topic}").into();
        self.record(ids, Finished { kind: Kind::Producer, name, start: began, end, attributes, link, error });
    }

    /// A dead letter was acknowledged. The record keeps the context that it came with, so that a replay goes on from there.
    pub(crate) fn dead_letter(&self, parent: &NewSpan, saga_id: SagaId, topic: &str, start: Timestamp, end: Timestamp) {
        if parent.ids.is_none() {
            return;
        }
        let Some(ids) = self.new_span(&parent.context, saga_id).ids else { return };
        let attributes = of_sending(topic, saga_id, self.names);
        let name = format!("send {topic}").into();
        self.record(ids, Finished { kind: Kind::Producer, name, start, end, attributes, link: None, error: None });
    }

    /// A record that cannot be read became a dead letter.
    pub(crate) fn poison(
        &self,
        span: &NewSpan,
        record: &Record,
        times: (Timestamp, Timestamp),
        why: (&'static str, String),
    ) {
        let Some(ids) = span.ids else { return };
        let mut attributes = of_record(record, self.participant, self.names);
        attributes.push(("saga.outcome", "dead_letter".into()));
        attributes.push(("error.type", why.0.into()));
        let name = format!("process {}", record.topic).into();
        let ((start, end), error) = (times, Some(why.1));
        self.record(ids, Finished { kind: Kind::Consumer, name, start, end, attributes, link: None, error });
    }

    /// A deadline was fired.
    pub(crate) fn deadline(
        &self,
        span: &NewSpan,
        step: &'static str,
        saga_id: SagaId,
        (start, end): (Timestamp, Timestamp),
        outcome: &'static str,
    ) {
        let Some(ids) = span.ids else { return };
        let attributes = vec![
            ("messaging.message.conversation_id", saga_id.to_string().into()),
            ("saga.participant", self.participant.into()),
            ("saga.step", step.into()),
            ("saga.outcome", outcome.into()),
        ];
        let name = format!("deadline {step}").into();
        self.record(ids, Finished { kind: Kind::Internal, name, start, end, attributes, link: None, error: None });
    }
}

fn of_record(record: &Record, group: &'static str, names: MessagingNames) -> Attributes {
    let mut attributes = Vec::with_capacity(18);
    attributes.extend([
        ("messaging.system", Value::from(names.system)),
        ("messaging.operation.name", "process".into()),
        ("messaging.operation.type", "process".into()),
        ("messaging.destination.name", record.topic.to_string().into()),
        ("messaging.destination.partition.id", record.partition.to_string().into()),
        (names.offset, record.offset.into()),
        ("messaging.consumer.group.name", group.into()),
    ]);
    attributes
}

fn of_sending(topic: &str, saga_id: SagaId, names: MessagingNames) -> Attributes {
    vec![
        ("messaging.system", names.system.into()),
        ("messaging.operation.name", "send".into()),
        ("messaging.operation.type", "send".into()),
        ("messaging.destination.name", topic.to_owned().into()),
        ("messaging.message.conversation_id", saga_id.to_string().into()),
    ]
}

fn of_step(event: &InFlight) -> impl Iterator<Item = (&'static str, Value)> {
    let op = match event.op {
        Op::Action => "action",
        Op::Compensate => "compensate",
    };
    let attempt = i64::from(event.attempts) + 1;
    let of_retry = (attempt > 1).then_some(("saga.attempt", attempt.into()));
    let of_round = (event.round > 0).then(|| ("saga.round", i64::from(event.round).into()));
    [("saga.step", event.half.into()), ("saga.op", op.into())].into_iter().chain(of_retry).chain(of_round)
}
