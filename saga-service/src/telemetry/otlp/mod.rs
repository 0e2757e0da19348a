//! Exports spans to a collector over OTLP: queued, sent in batches, and counted when they are lost.

mod exporter;
mod queue;
mod rejected;
mod resource;
mod sampling;
mod span;
mod tally;
mod transport;
pub(super) mod user_spans;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{SpanId, TraceId};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanProcessor};
use saga_core::trace::{Ids, NewSpan, Span, TraceContext, Traceparent, Tracer, UserSpans};

use crate::{config::TraceConfig, error::ServiceError};
use exporter::{Exporter, Stop};
use queue::Queue;
use tally::Tally;
use user_spans::AttemptSpans;

pub(crate) use sampling::Sampling;
pub(crate) use tally::SpanCounters;

/// Sends spans to an OpenTelemetry collector.
///
/// A collector that is away, slow or wrong costs spans, never throughput or memory: the queue is bounded, and what it has no
/// room for is counted. Contexts are handed on all the same.
#[derive(Debug)]
pub struct OtlpTracer {
    queue: Arc<Queue>,
    sampling: Sampling,
    ids: RandomIdGenerator,
    stop: Mutex<Option<Stop>>,
}

impl OtlpTracer {
    /// Starts exporting as it is configured, on threads of its own; none when nothing is to be exported.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub fn start(config: &TraceConfig, participant: &str) -> Result<Option<Self>, ServiceError> {
        let Some(export) = &config.export else { return Ok(None) };
        let tally = Arc::new(Tally::new(participant, export.shown(), export.queue.size));
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(export.queue.size)
            .with_max_export_batch_size(export.queue.batch)
            .with_scheduled_delay(export.queue.delay)
            .build();
        let (exporter, stop) = Exporter::start(export, resource::of(participant), tally.clone())?;
        let queue = Queue { processor: BatchSpanProcessor::new(exporter, batches), tally };
        Ok(Some(Self {
            queue: Arc::new(queue),
            sampling: config.sampling,
            ids: RandomIdGenerator::default(),
            stop: Mutex::new(Some(stop)),
        }))
    }

    /// Sends what is still queued, for at most `within`. Blocks. What is recorded after it is lost.
    pub fn shutdown(&self, within: Duration) {
        self.queue.tally.end();
        let ended = self.queue.processor.shutdown_with_timeout(within);
        // This ends the current request. Spans that are queued behind it are counted as lost.
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        if ended.is_err() && !self.queue.tally.is_failing() {
            tracing::warn!("the collector did not take the last spans in time");
        }
    }

    pub(crate) fn counters(&self) -> SpanCounters {
        self.queue.tally.counters.clone()
    }

    fn new_span_id(&self) -> [u8; 8] {
        loop {
            let id = self.ids.new_span_id();
            if id != SpanId::INVALID {
                return id.to_bytes();
            }
        }
    }

    fn below(&self, parent: Traceparent, context: &TraceContext) -> NewSpan {
        let sampled = self.sampling.samples(Some(parent.sampled()), &parent.trace_id);
        if !sampled && !parent.sampled() {
            return NewSpan::handed_on(context);
        }
        let span_id = if sampled { self.new_span_id() } else { parent.span_id };
        let traceparent = parent.child(span_id, sampled).to_text();
        let context = TraceContext { traceparent: Some(traceparent), tracestate: context.tracestate.clone() };
        let ids = Ids { trace_id: parent.trace_id, span_id, parent_id: Some(parent.span_id) };
        NewSpan { context, ids: sampled.then_some(ids) }
    }

    fn first(&self, new_trace: u128) -> NewSpan {
        let mut trace = TraceId::from(new_trace);
        while trace == TraceId::INVALID {
            trace = self.ids.new_trace_id();
        }
        let (trace_id, span_id) = (trace.to_bytes(), self.new_span_id());
        let sampled = self.sampling.samples(None, &trace_id);
        // Also when it is not recorded here: others decide by it.
        let traceparent = Some(Traceparent::new(trace_id, span_id, sampled).to_text());
        let ids = Ids { trace_id, span_id, parent_id: None };
        NewSpan { context: TraceContext { traceparent, tracestate: None }, ids: sampled.then_some(ids) }
    }
}

impl Tracer for OtlpTracer {
    fn new_span(&self, parent: &TraceContext, new_trace: u128) -> NewSpan {
        match parent.parse() {
            Some(traceparent) => self.below(traceparent, parent),
            None => self.first(new_trace),
        }
    }

    fn record(&self, span: Span) {
        if self.queue.tally.enter() {
            self.queue.processor.on_end(span::data(span));
        }
    }

    fn user_spans(&self, name: &str, below: &[&NewSpan]) -> Option<Arc<dyn UserSpans>> {
        Some(Arc::new(AttemptSpans::new(&self.queue, name, below)?))
    }
}

#[cfg(test)]
mod tests;
