//! Traces: the W3C context that is passed on from event to event, and the spans that are recorded when they end.
//!
//! A span is recorded once, complete, after its work is committed: a transaction that is rolled back and redone leaves
//! no span, and no span is kept open across an await. Code that needs the span's id earlier (for the header of an event
//! that is about to be committed) creates a [`NewSpan`] first.

mod traceparent;
mod tracestate;
mod user;

use std::{borrow::Cow, fmt, sync::Arc};

use jiff::Timestamp;

pub use traceparent::Traceparent;
pub(crate) use user::Around;
pub use user::UserSpans;

/// The W3C trace context of a saga, as text: passed on from event to event, also when nothing is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub traceparent: Option<String>,
    /// The `tracestate` header.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// The context from these headers, as it is passed on; empty when the `traceparent` is missing or malformed,
    /// because a `tracestate` has no meaning without it.
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

/// A span that will be recorded later. Its ids are known, so that its children can name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSpan {
    /// The context for its children. Passed on to other processes where the tracer
    /// [propagates](Tracer::propagates).
    pub context: TraceContext,
    /// The ids it is recorded under; none when it is not recorded (tracing is off, or the trace is not sampled).
    pub ids: Option<Ids>,
}

impl NewSpan {
    /// A span that is not recorded: it passes the context on.
    pub fn handed_on(context: &TraceContext) -> Self {
        Self { context: context.clone(), ids: None }
    }
}

/// The ids of a recorded span, as in W3C trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// The span that it is a child of; none for the first of a trace.
    pub parent_id: Option<[u8; 8]>,
}

/// The receiver of spans. No method blocks or fails: tracing never delays a saga.
pub trait Tracer: fmt::Debug + Send + Sync {
    /// A new span below `parent`; without a parent, the root of the trace `new_trace`, if that is sampled.
    ///
    /// Participants that handle the same event without a context all use the saga's id as the trace's id, so that the
    /// saga is still one trace.
    fn new_span(&self, parent: &TraceContext, new_trace: u128) -> NewSpan;

    /// Records a span that has ended.
    fn record(&self, span: Span);

    /// Collects the spans that the user's own code opens: below the one span, or, for several sagas at once, in a trace of
    /// their own below a span of this name that is linked to each. None when none of these spans is recorded.
    fn user_spans(&self, _name: &str, _below: &[&NewSpan]) -> Option<Arc<dyn UserSpans>> {
        None
    }

    /// Whether contexts are read from incoming events and requests, and written to outgoing events and calls of
    /// effects. Within the process, spans are a tree and log lines name their trace in either case.
    fn propagates(&self) -> bool {
        true
    }
}

/// Records nothing, and passes contexts on unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTracer;

impl Tracer for NoTracer {
    fn new_span(&self, parent: &TraceContext, _new_trace: u128) -> NewSpan {
        NewSpan::handed_on(parent)
    }

    fn record(&self, _span: Span) {}
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its ids.
    pub ids: Ids,
    /// Its role.
    pub kind: Kind,
    /// Its name, of low cardinality: without ids.
    pub name: Cow<'static, str>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its attributes; never data of an event.
    pub attributes: Vec<(&'static str, Value)>,
    /// Further contexts that it is linked to.
    pub links: Vec<TraceContext>,
    /// The error, if there was one. A refusal is not an error.
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
