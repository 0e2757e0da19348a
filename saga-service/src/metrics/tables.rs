//! Sizes and ages of a participant's tables, read when somebody asks for them.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::gauge::Gauge,
    registry::{Registry, Unit},
};
use saga_core::{
    clock::{Clock, SystemClock},
    runtime,
    store::Store,
};

/// A database that is away must not hold up the other figures; these then stay as they were.
const PATIENCE: Duration = Duration::from_secs(2);

type Seconds = Gauge<f64, AtomicU64>;

/// Counts into the runtime's gauges, and adds those that only the database can tell.
#[derive(Clone)]
pub(crate) struct Tables<S> {
    store: S,
    counts: runtime::Metrics,
    outbox_age: Seconds,
    parked_age: Seconds,
    unfinished_age: Seconds,
    deadlines: Gauge,
}

impl<S: Store> Tables<S> {
    pub(crate) fn register(registry: &mut Registry, store: S, counts: runtime::Metrics) -> Self {
        let tables = Self {
            store,
            counts,
            outbox_age: Seconds::default(),
            parked_age: Seconds::default(),
            unfinished_age: Seconds::default(),
            deadlines: Gauge::default(),
        };
        let saga = registry.sub_registry_with_prefix("saga");
        saga.register_with_unit(
            "outbox_oldest_age",
            "Age of the oldest outbox row not yet marked sent",
            Unit::Seconds,
            tables.outbox_age.clone(),
        );
        saga.register_with_unit(
            "parked_oldest_age",
            "Time since the saga that has been parked longest failed first; 0 when there is none",
            Unit::Seconds,
            tables.parked_age.clone(),
        );
        saga.register_with_unit(
            "oldest_unfinished_age",
            "Time since the oldest saga began that has not ended; 0 when there is none",
            Unit::Seconds,
            tables.unfinished_age.clone(),
        );
        saga.register("deadlines_waiting", "Deadlines armed and not due yet", tables.deadlines.clone());
        tables
    }

    pub(crate) async fn refresh(&self) {
        let summary = match tokio::time::timeout(PATIENCE, self.store.summary()).await {
            Ok(Ok(summary)) => summary,
            Ok(Err(error)) => return tracing::debug!(%error, "the tables were not measured"),
            Err(_) => return tracing::debug!("measuring the tables took too long"),
        };
        let now = SystemClock.now();
        let age = |since: Option<_>| since.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0));
        set(&self.counts.outbox_pending, summary.outbox_pending);
        set(&self.counts.parked, summary.parked_sagas);
        set(&self.counts.held, summary.held_sagas);
        set(&self.counts.active, summary.unfinished_sagas);
        set(&self.deadlines, summary.timers);
        self.outbox_age.set(age(summary.outbox_oldest));
        self.parked_age.set(age(summary.parked_oldest));
        self.unfinished_age.set(age(summary.unfinished_oldest));
    }
}

fn set(gauge: &Gauge, count: u64) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}
