//! An in-memory tracer with predictable ids: its spans can be read as a tree.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::trace::{Ids, NewSpan, Span, TraceContext, Tracer};

/// Keeps every span. A clone shares the same spans.
#[derive(Clone, Debug, Default)]
pub struct MemoryTracer {
    spans: Arc<Mutex<Vec<Span>>>,
    last_id: Arc<AtomicU64>,
}

impl MemoryTracer {
    /// The spans recorded so far, in the order in which they ended.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of a trace, one per line: two blanks for each enclosing span, the name, and the `saga.outcome` if
    /// there is one. Spans whose parent is missing come first; the others are in the order of their start.
    pub fn tree(&self, trace_id: u128) -> String {
        let mut spans = self.spans();
        spans.retain(|span| span.ids.trace_id == trace_id.to_be_bytes());
        spans.sort_by_key(|span| span.start);
        let known = |id| spans.iter().any(|span: &Span| Some(span.ids.span_id) == id);
        let mut text = String::new();
        for root in spans.iter().filter(|span| !known(span.ids.parent_id)) {
            write(&mut text, &spans, root, 0);
        }
        text
    }
}

fn write(text: &mut String, spans: &[Span], span: &Span, depth: usize) {
    let outcome = span.attributes.iter().find(|(name, _)| *name == "saga.outcome");
    let outcome = match outcome {
        Some((_, crate::trace::Value::Text(outcome))) => format!(": {outcome}"),
        _ => String::new(),
    };
    text.push_str(&format!("{}{}{outcome}\n", "  ".repeat(depth), span.name));
    for child in spans.iter().filter(|child| child.ids.parent_id == Some(span.ids.span_id)) {
        write(text, spans, child, depth + 1);
    }
}

impl Tracer for MemoryTracer {
    fn new_span(&self, parent: &TraceContext, new_trace: u128) -> NewSpan {
        let parsed = parent.parse();
        if parsed.is_some_and(|parent| !parent.sampled()) {
            return NewSpan::handed_on(parent);
        }
        let span_id = (self.last_id.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes();
        let trace_id = parsed.map_or(new_trace.to_be_bytes(), |parent| parent.trace_id);
        let ids = Ids { trace_id, span_id, parent_id: parsed.map(|parent| parent.span_id) };
        NewSpan { context: TraceContext::of(&ids, parent.tracestate.clone()), ids: Some(ids) }
    }

    fn record(&self, span: Span) {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }
}
