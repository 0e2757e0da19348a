//! A user's own `tracing` spans inside handlers and effects, collected by attempt and exported once it has committed.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{Span as _, SpanContext, TraceContextExt, TraceState, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use saga_core::trace::{Ids, Kind, NewSpan, TraceContext, UserSpans};
use tracing::{
    Level, Subscriber,
    dispatcher::{self, Dispatch},
    level_filters::LevelFilter,
};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{Layer, filter::dynamic_filter_fn, registry::LookupSpan};

use super::{queue::Queue, span::data as finished};

/// So many spans of one attempt are kept until it commits; more are counted as lost.
const MOST: usize = 128;
/// Their spans are for log lines, and what they do is recorded already.
const FRAMEWORK: [&str; 4] = ["saga_core", "saga_kafka", "saga_service", "saga_store"];

/// The layer that takes a user's own spans into the traces of sagas, for a subscriber that is not set by [`init`](crate::telemetry::init).
///
/// It takes what a handler or an effect opens at the level INFO and above, with the events inside, and nothing else; which
/// lines are logged (`RUST_LOG`) does not matter to it, unless a filter stands around the whole subscriber.
pub fn user_spans<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // Otherwise the SDK reads the variables of the sampler, which are not for this, and logs warnings with their values.
    let provider = dispatcher::with_default(&Dispatch::none(), || {
        SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(Resource::builder_empty().build())
            .with_span_processor(Collector::default())
            .build()
    });
    let taken = dynamic_filter_fn(|metadata, _| {
        *metadata.level() <= Level::INFO
            && Context::map_current(|current| current.get::<Collected>().is_some())
            && !FRAMEWORK.iter().any(|name| metadata.target().split("::").next() == Some(name))
    });
    OpenTelemetryLayer::new(provider.tracer("saga.user"))
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(taken.with_max_level_hint(LevelFilter::INFO))
}

/// What is below a context: the attempt that its spans belong to.
#[derive(Clone)]
struct Collected(Arc<Attempt>);

/// One run of a handler, or one call of an effect.
struct Attempt {
    queue: Arc<Queue>,
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    ended: Vec<SpanData>,
    /// From then on they are exported as they end.
    kept: bool,
}

impl Attempt {
    fn ended(&self, span: SpanData) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.kept {
            self.queue.push(span);
        } else if spans.ended.len() < MOST {
            spans.ended.push(span);
        } else {
            self.queue.lost();
        }
    }

    fn keep(&self) -> Vec<SpanData> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.kept = true;
        std::mem::take(&mut spans.ended)
    }
}

/// Knows of every span that is open which attempt it belongs to. The SDK ends each, at the latest when it is dropped.
#[derive(Default)]
struct Collector(Mutex<HashMap<(TraceId, SpanId), Arc<Attempt>>>);

impl Collector {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<(TraceId, SpanId), Arc<Attempt>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("open", &self.open().len()).finish()
    }
}

impl SpanProcessor for Collector {
    fn on_start(&self, span: &mut Span, context: &Context) {
        let Some(Collected(attempt)) = context.get() else { return };
        let span = span.span_context();
        self.open().insert((span.trace_id(), span.span_id()), attempt.clone());
    }

    fn on_end(&self, span: SpanData) {
        let attempt = self.open().remove(&(span.span_context.trace_id(), span.span_context.span_id()));
        if let Some(attempt) = attempt {
            attempt.ended(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The spans of an attempt, below the place of its event or, of several events, below a span of their own.
pub(super) struct AttemptSpans {
    attempt: Arc<Attempt>,
    below: Context,
    together: Option<Together>,
}

/// The span around what is about several sagas.
struct Together {
    name: String,
    ids: Ids,
    links: Vec<TraceContext>,
    start: SystemTime,
}

impl AttemptSpans {
    /// None when nothing is recorded at these places.
    pub(super) fn new(queue: &Arc<Queue>, name: &str, new_spans: &[&NewSpan]) -> Option<Self> {
        let recorded = new_spans.iter().filter_map(|span| Some((span.ids?, &span.context)));
        let recorded: Vec<(Ids, &TraceContext)> = recorded.collect();
        let (ids, state, together) = match &recorded[..] {
            [] => return None,
            [(ids, context)] if new_spans.len() == 1 => (*ids, context.tracestate.as_deref(), None),
            all => {
                let new = RandomIdGenerator::default();
                let (trace_id, span_id) = (new.new_trace_id().to_bytes(), new.new_span_id().to_bytes());
                let ids = Ids { trace_id, span_id, parent_id: None };
                let links = all.iter().map(|(_, context)| (*context).clone()).collect();
                let name = format!("handle {name}");
                (ids, None, Some(Together { name, ids, links, start: SystemTime::now() }))
            }
        };
        let attempt = Arc::new(Attempt { queue: queue.clone(), spans: Mutex::default() });
        let below = Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from(u128::from_be_bytes(ids.trace_id)),
            SpanId::from(u64::from_be_bytes(ids.span_id)),
            TraceFlags::SAMPLED,
            false,
            state.and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default(),
        ));
        Some(Self { below: below.with_value(Collected(attempt.clone())), attempt, together })
    }
}

impl fmt::Debug for AttemptSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptSpans").finish_non_exhaustive()
    }
}

impl UserSpans for AttemptSpans {
    fn poll(&self, poll: &mut dyn FnMut()) {
        let _current = self.below.clone().attach();
        poll();
    }

    fn keep(&self) -> Option<TraceContext> {
        let spans = self.attempt.keep();
        let some = !spans.is_empty();
        spans.into_iter().for_each(|span| self.attempt.queue.push(span));
        let Together { name, ids, links, start } = self.together.as_ref().filter(|_| some)?;
        self.attempt.queue.push(finished(saga_core::trace::Span {
            ids: *ids,
            kind: Kind::Internal,
            name: name.clone().into(),
            start: (*start).try_into().unwrap_or_default(),
            end: SystemTime::now().try_into().unwrap_or_default(),
            attributes: Vec::new(),
            links: links.clone(),
            error: None,
        }));
        Some(TraceContext::of(ids, None))
    }
}
