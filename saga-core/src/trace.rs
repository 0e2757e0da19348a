//! Traces: the W3C context that is handed on from event to event, and the spans that are recorded when they are over.
//!
//! A span is recorded once, complete, when what it is about is committed: a transaction that is rolled back and redone leaves
//! no trace of itself, and nothing has to be kept open across an await. What needs the span's id before that (the header of
//! an event that is about to be committed) takes a [`NewSpan`] first.

mod traceparent;
mod tracestate;
mod user;

use std::{borrow::Cow, fmt, sync::Arc};

use jiff::Timestamp;

pub use traceparent::Traceparent;
pub(crate) use user::Around;
pub use user::UserSpans;

/// The W3C trace context of a saga, as text: handed on from event to event, also when nothing is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub traceparent: Option<String>,
    /// The `tracestate` header.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// The context that these headers say, as it is handed on; empty when the `traceparent` is missing or malformed, because
    /// without its parent a state means nothing.
    pub fn read(traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        let Some(traceparent) = traceparent.filter(|text| Traceparent::parse(text).is_some()) else {
            return Self::default();
        };
        let tracestate = tracestate.and_then(tracestate::within_limits).map(Cow::into_owned);
        Self { traceparent: Some(traceparent.to_owned()), tracestate }
    }

    /// The context of a sampled span.
    pub fn of(ids: &Ids, tracestate: Option<String>) -> Self {
        Self { traceparent: Some(Traceparent::new(ids.trace_id, ids.span_id, true).to_text()), tracestate }
    }

    /// The trace's id in hexadecimal, when there is a well-formed `traceparent`.
    pub fn trace_id(&self) -> Option<&str> {
        self.parse()?;
        self.traceparent.as_deref()?.get(3..35)
    }

    /// Reads the `traceparent`, of any version; none when it is absent or malformed, or names no trace or no span.
    pub fn parse(&self) -> Option<Traceparent> {
        Traceparent::parse(self.traceparent.as_deref()?)
    }
}

/// A span that will be recorded later: its ids are known, so that what follows it can name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSpan {
    /// The context for its children. It is handed on to other processes where the tracer [propagates](Tracer::propagates).
    pub context: TraceContext,
    /// The ids it is recorded under; none when it is not recorded (tracing is off, or the trace is not sampled).
    pub ids: Option<Ids>,
}

impl NewSpan {
    /// Hands a context on and records nothing.
    pub fn handed_on(context: &TraceContext) -> Self {
        Self { context: context.clone(), ids: None }
    }
}

/// The ids of a span that is recorded, as W3C trace context has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// The span that it is a child of; none for the first of a trace.
    pub parent_id: Option<[u8; 8]>,
}

/// Where spans go. No method blocks or fails: tracing never holds up a saga.
pub trait Tracer: fmt::Debug + Send + Sync {
    /// A new span below `parent`. Without a parent it is the first of the trace `new_trace`, if that is sampled.
    ///
    /// Participants that handle the same event without a context all use the saga's id as the trace's, so that the saga is one
    /// trace.
    fn new_span(&self, parent: &TraceContext, new_trace: u128) -> NewSpan;

    /// Records a span that is over.
    fn record(&self, span: Span);

    /// Collects the spans that the user's own code opens: below the one span, or, for several sagas at once, in a trace of
    /// their own below a span of this name that is linked to each. None when none of these spans is recorded.
    fn user_spans(&self, _name: &str, _below: &[&NewSpan]) -> Option<Arc<dyn UserSpans>> {
        None
    }

    /// Whether contexts are read from what comes into the process and written to what goes out: events, requests, calls of
    /// effects. Inside of it, spans are a tree and log lines name their trace all the same.
    fn propagates(&self) -> bool {
        true
    }
}

/// Records nothing, and hands contexts on as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTracer;

impl Tracer for NoTracer {
    fn new_span(&self, parent: &TraceContext, _new_trace: u128) -> NewSpan {
        NewSpan::handed_on(parent)
    }

    fn record(&self, _span: Span) {}
}

/// A span that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its ids.
    pub ids: Ids,
    /// Its role.
    pub kind: Kind,
    /// Its name, of few different ones: no ids in it.
    pub name: Cow<'static, str>,
    /// When it began.
    pub start: Timestamp,
    /// When it was over.
    pub end: Timestamp,
    /// What is to be known of it; never data of an event.
    pub attributes: Vec<(&'static str, Value)>,
    /// Contexts that it has to do with besides its parent's.
    pub links: Vec<TraceContext>,
    /// What went wrong, if something did. A refusal is not an error.
    pub error: Option<String>,
}

/// A span's role, as OpenTelemetry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work within the process.
    Internal,
    /// A request that is served.
    Server,
    /// A call that is made.
    Client,
    /// An event that is published.
    Producer,
    /// An event that is handled.
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is the type it holds")]
pub enum Value {
    Text(Cow<'static, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}
