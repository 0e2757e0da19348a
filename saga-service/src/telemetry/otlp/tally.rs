//! What becomes of spans, counted and logged: the batch processor drops in silence what it has no room for.

use std::{
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use prometheus_client::metrics::counter::Counter;

/// The numbers that show whether traces are whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanCounters {
    pub(crate) exported: Counter,
    pub(crate) lost: Counter,
}

/// Why the last request got no answer, in words of the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Reason(Arc<Mutex<Option<String>>>);

impl Reason {
    pub(super) fn is(&self, error: &dyn Error) {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            text.push_str(&format!(": {source}"));
            next = source.source();
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug)]
pub(super) struct Tally {
    pub(super) counters: SpanCounters,
    pub(super) reason: Reason,
    /// The participant and the endpoint, for log lines.
    service: String,
    endpoint: String,
    room: usize,
    queued: AtomicUsize,
    /// Of the last request.
    rejected: AtomicU64,
    ended: AtomicBool,
    failing: AtomicBool,
}

impl Tally {
    pub(super) fn new(service: &str, endpoint: String, room: usize) -> Self {
        Self {
            counters: SpanCounters::default(),
            reason: Reason::default(),
            service: service.to_owned(),
            endpoint,
            room,
            queued: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        }
    }

    /// Takes a place in the queue; a span that gets none is lost.
    pub(super) fn enter(&self) -> bool {
        if !self.ended.load(Relaxed) {
            if self.queued.fetch_add(1, Relaxed) < self.room {
                return true;
            }
            self.queued.fetch_sub(1, Relaxed);
        }
        self.lost(1);
        false
    }

    /// Notes that these have left the queue.
    pub(super) fn left(&self, spans: usize) {
        self.queued.fetch_sub(spans, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    /// Notes the end: later spans are lost.
    pub(super) fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    pub(super) fn rejected(&self, spans: u64) {
        self.rejected.store(spans, Relaxed);
    }

    pub(super) fn lost(&self, spans: usize) {
        self.counters.lost.inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
    }

    pub(super) fn succeeded(&self, spans: usize) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        let rejected = self.rejected.swap(0, Relaxed).min(spans);
        self.counters.exported.inc_by(spans - rejected);
        self.counters.lost.inc_by(rejected);
        if self.failing.swap(false, Relaxed) {
            tracing::info!(service = self.service, endpoint = self.endpoint, "traces are exported again");
        }
    }

    pub(super) fn failed(&self, spans: usize, error: &dyn std::fmt::Display) {
        self.lost(spans);
        let reason = self.reason.take();
        if !self.failing.swap(true, Relaxed) {
            tracing::warn!(
                service = self.service,
                endpoint = self.endpoint,
                reason = reason.unwrap_or_else(|| error.to_string()),
                "traces cannot be exported and are lost for now; without a collector, set OTEL_TRACES_EXPORTER=none"
            );
        }
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }
}
