//! Spans on their way to a collector, over OTLP: queued, sent in batches, and given up when nobody takes them.

mod client;
mod exporter;
mod flow;
mod gate;
mod resource;
mod sampling;
mod span;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::{SpanId, TraceId};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanProcessor};
use saga_core::trace::{Ids, Place, Span, TraceContext, Traceparent, Tracer};

use crate::{config::TraceConfig, error::ServiceError};
use exporter::Exporter;
use flow::Flow;

pub(crate) use flow::SpanCounters;
pub(crate) use sampling::Sampling;

/// After a failed export. Long enough for a collector that is away to cost next to nothing, short enough for one that
/// was restarted to be missed for a moment only.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);

/// Sends spans to an OpenTelemetry collector.
///
/// A collector that is away, slow or wrong costs spans, never throughput or memory: the queue is bounded, and after a
/// failed export nothing is recorded for a while. Contexts are handed on all the same.
#[derive(Debug)]
pub struct OtlpTracer {
    processor: BatchSpanProcessor,
    sampling: Sampling,
    ids: RandomIdGenerator,
    flow: Arc<Flow>,
}

impl OtlpTracer {
    /// Starts exporting as it is configured, on a thread of its own; none when nothing is to be exported. After a failed
    /// export, spans are not recorded for `pause`.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub fn start(config: &TraceConfig, participant: &str, pause: Duration) -> Result<Option<Self>, ServiceError> {
        let Some(export) = &config.export else { return Ok(None) };
        let flow = Arc::new(Flow::new(participant, export.shown(), export.queue.size, pause));
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(export.queue.size)
            .with_max_export_batch_size(export.queue.batch.min(export.queue.size))
            .with_scheduled_delay(export.queue.delay)
            .build();
        let exporter = Exporter::new(export, flow.clone())?;
        let mut processor = BatchSpanProcessor::new(exporter, batches);
        processor.set_resource(&resource::of(config, participant));
        Ok(Some(Self { processor, sampling: config.sampling, ids: RandomIdGenerator::default(), flow }))
    }

    /// Sends what is still queued, for at most `within`. Blocks. What is recorded after it is lost.
    pub fn shutdown(&self, within: Duration) {
        self.flow.end_at(Instant::now() + within);
        let ended = self.processor.shutdown_with_timeout(within);
        if ended.is_err() && !self.flow.gate.is_failing() {
            tracing::warn!("the collector did not take the last spans in time");
        }
    }

    pub(crate) fn counters(&self) -> SpanCounters {
        self.flow.counters.clone()
    }

    /// Spans that are recorded and not sent yet.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.flow.queued()
    }

    fn new_span_id(&self) -> [u8; 8] {
        loop {
            let id = self.ids.new_span_id();
            if id != SpanId::INVALID {
                return id.to_bytes();
            }
        }
    }

    fn below(&self, parent: Traceparent, context: &TraceContext) -> Place {
        let sampled = self.sampling.samples(Some(parent.sampled()), &parent.trace_id);
        if !sampled && !parent.sampled() || sampled && !self.flow.records() {
            return Place::handed_on(context);
        }
        let span_id = if sampled { self.new_span_id() } else { parent.span_id };
        let traceparent = parent.child(span_id, sampled).to_text();
        let context = TraceContext { traceparent: Some(traceparent), tracestate: context.tracestate.clone() };
        let ids = Ids { trace_id: parent.trace_id, span_id, parent_id: Some(parent.span_id) };
        Place { context, ids: sampled.then_some(ids) }
    }

    fn first(&self, new_trace: u128) -> Place {
        let mut trace = TraceId::from(new_trace);
        while trace == TraceId::INVALID {
            trace = self.ids.new_trace_id();
        }
        let (trace_id, span_id) = (trace.to_bytes(), self.new_span_id());
        let sampled = self.sampling.samples(None, &trace_id);
        // Also when it is not recorded here: others decide by it.
        let traceparent = Some(Traceparent::new(trace_id, span_id, sampled).to_text());
        let ids = Ids { trace_id, span_id, parent_id: None };
        Place {
            context: TraceContext { traceparent, tracestate: None },
            ids: (sampled && self.flow.records()).then_some(ids),
        }
    }
}

impl Tracer for OtlpTracer {
    fn place(&self, parent: &TraceContext, new_trace: u128) -> Place {
        match parent.parse() {
            Some(traceparent) => self.below(traceparent, parent),
            None => self.first(new_trace),
        }
    }

    fn record(&self, span: Span) {
        if self.flow.enter() {
            self.processor.on_end(span::data(span));
        }
    }
}

#[cfg(test)]
mod tests;
