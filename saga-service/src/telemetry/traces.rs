//! Which tracer a service has, by its settings.

use std::{sync::Arc, time::Duration};

use saga_core::trace::{NewSpan, NoTracer, Span, TraceContext, Tracer, UserSpans};

use super::otlp::{OtlpTracer, SpanCounters};
use crate::{config::TraceConfig, error::ServiceError};

/// A service's tracer, and what there is to be done with it besides tracing.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    tracer: Arc<dyn Tracer>,
    otlp: Option<Arc<OtlpTracer>>,
}

impl Traces {
    pub(crate) fn start(config: &TraceConfig, participant: &str) -> Result<Self, ServiceError> {
        let otlp = OtlpTracer::start(config, participant)?.map(Arc::new);
        let tracer: Arc<dyn Tracer> = match &otlp {
            Some(otlp) => otlp.clone(),
            None => Arc::new(NoTracer),
        };
        let tracer = if config.propagates { tracer } else { Arc::new(Unpropagated(tracer)) };
        Ok(Self { tracer, otlp })
    }

    pub(crate) fn tracer(&self) -> Arc<dyn Tracer> {
        self.tracer.clone()
    }

    pub(crate) fn counters(&self) -> Option<SpanCounters> {
        self.otlp.as_ref().map(|otlp| otlp.counters())
    }

    pub(crate) async fn shutdown(self, within: Duration) {
        let Some(otlp) = self.otlp else { return };
        // It fails only if it panics, and the panic hook logs that.
        let _ = tokio::task::spawn_blocking(move || otlp.shutdown(within)).await;
    }
}

/// `OTEL_PROPAGATORS=none`: contexts are neither read from what comes in nor written to what goes out. The spans that
/// participants record of a saga still share its trace, which has the saga's id.
#[derive(Debug)]
struct Unpropagated(Arc<dyn Tracer>);

impl Tracer for Unpropagated {
    fn new_span(&self, parent: &TraceContext, new_trace: u128) -> NewSpan {
        self.0.new_span(parent, new_trace)
    }

    fn record(&self, span: Span) {
        self.0.record(span);
    }

    fn user_spans(&self, name: &str, below: &[&NewSpan]) -> Option<Arc<dyn UserSpans>> {
        self.0.user_spans(name, below)
    }

    fn propagates(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn traces(variables: &[(&str, &str)]) -> Traces {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Traces::start(&TraceConfig::of(variables).unwrap(), "probe").unwrap()
    }

    fn parent() -> TraceContext {
        TraceContext { traceparent: Some(PARENT.to_owned()), tracestate: Some("a=1".to_owned()) }
    }

    #[test]
    fn a_context_is_handed_on_when_tracing_is_off() {
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            let span = traces(&[off]).tracer().new_span(&parent(), 1);
            assert_eq!(span, NewSpan { context: parent(), ids: None }, "{off:?}");
        }
    }

    #[test]
    fn without_propagators_contexts_stay_inside_where_they_are_handed_on() {
        let tracer = traces(&[("OTEL_PROPAGATORS", "none")]).tracer();
        assert!(!tracer.propagates() && traces(&[]).tracer().propagates());
        let first = tracer.new_span(&TraceContext::default(), 7);
        let ids = first.ids.unwrap();
        assert_eq!(u128::from_be_bytes(ids.trace_id), 7);
        let below = tracer.new_span(&first.context, 8).ids.unwrap();
        assert_eq!((below.trace_id, below.parent_id), (ids.trace_id, Some(ids.span_id)));
        let off = traces(&[("OTEL_PROPAGATORS", "none"), ("OTEL_SDK_DISABLED", "true")]).tracer();
        assert_eq!(off.new_span(&TraceContext::default(), 7), NewSpan::default());
    }
}
