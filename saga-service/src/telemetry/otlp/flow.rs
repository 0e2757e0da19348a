//! What the recording side and the exporting side know of each other: how much is queued, how it goes, when it ends.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;

use super::gate::Gate;

/// So many spans find out whether a collector that failed is back.
const PROBES: usize = 64;

/// The numbers that show whether traces are whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanCounters {
    pub(crate) exported: Counter,
    pub(crate) lost: Counter,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) gate: Gate,
    pub(super) counters: SpanCounters,
    /// Whose spans these are and where they go, for whoever reads the log.
    service: String,
    endpoint: String,
    room: usize,
    queued: AtomicUsize,
    /// Spans of the last request that the collector did not want, and why the request failed.
    rejected: AtomicU64,
    reason: Mutex<Option<String>>,
    /// Nothing is sent any more from here on.
    end: OnceLock<Instant>,
}

impl Flow {
    pub(super) fn new(service: &str, endpoint: String, room: usize, pause: Duration) -> Self {
        Self {
            gate: Gate::new(pause),
            counters: SpanCounters::default(),
            service: service.to_owned(),
            endpoint,
            room,
            queued: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            reason: Mutex::default(),
            end: OnceLock::new(),
        }
    }

    /// Whether recording is worth while. A span that is sampled, and is not recorded because it is not, is lost.
    pub(super) fn records(&self) -> bool {
        let records = self.gate.is_open() && (!self.gate.is_failing() || self.queued.load(Relaxed) < PROBES);
        if !records {
            self.counters.lost.inc();
        }
        records
    }

    /// Takes a place in the queue. The processor would drop what does not fit without telling anybody, so it must never
    /// be offered more than it has room for.
    pub(super) fn enter(&self) -> bool {
        if self.end.get().is_none() {
            if self.queued.fetch_add(1, Relaxed) < self.room {
                return true;
            }
            self.queued.fetch_sub(1, Relaxed);
        }
        self.counters.lost.inc();
        false
    }

    /// These have left the queue.
    pub(super) fn left(&self, spans: usize) {
        self.queued.fetch_sub(spans, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    pub(super) fn end_at(&self, end: Instant) {
        // The first end counts.
        let _ = self.end.set(end);
    }

    pub(super) fn is_over(&self) -> bool {
        self.end.get().is_some_and(|end| *end <= Instant::now())
    }

    /// How long a request may take; none when it is too late for one.
    pub(super) fn time_left(&self, usual: Duration) -> Option<Duration> {
        let left = self.end.get().map_or(usual, |end| end.saturating_duration_since(Instant::now()).min(usual));
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn reject(&self, spans: u64) {
        self.rejected.store(spans, Relaxed);
    }

    pub(super) fn because(&self, reason: String) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    pub(super) fn succeeded(&self, spans: usize) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        let rejected = self.rejected.swap(0, Relaxed).min(spans);
        self.counters.exported.inc_by(spans - rejected);
        self.counters.lost.inc_by(rejected);
        if self.gate.succeeded() {
            tracing::info!(service = self.service, endpoint = self.endpoint, "traces are exported again");
        }
    }

    pub(super) fn failed(&self, spans: usize, error: &dyn std::fmt::Display) {
        let first = self.gate.failed();
        self.lost(spans);
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).take();
        if first {
            tracing::warn!(
                service = self.service,
                endpoint = self.endpoint,
                reason = reason.unwrap_or_else(|| error.to_string()),
                "traces cannot be exported and are not recorded for now; without a collector, set \
                 OTEL_TRACES_EXPORTER=none"
            );
        }
    }

    pub(super) fn lost(&self, spans: usize) {
        self.counters.lost.inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
    }
}
