//! What a participant's runtime shares with the rest of its process: the outbox, its readiness and its metrics.

use std::sync::Arc;

use crate::runtime::{
    publish::outbox::Outbox,
    telemetry::{health::Health, metrics::Metrics, spans::Spans},
};
use crate::{
    Namespace,
    clock::Clock,
    store::Store,
    trace::{NoTracer, Tracer},
    transport::Producer,
};

/// What a participant's runtime shares with the rest of its process: the outbox, readiness and metrics. It is made first,
/// because the service's routes need the outbox and the runtime is made from it.
pub struct Handle<S: Store, P: Producer, C: Clock> {
    pub(crate) store: S,
    pub(crate) clock: C,
    pub(crate) outbox: Outbox<S, P, C>,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
}

impl<S: Store, P: Producer, C: Clock> Clone for Handle<S, P, C> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            clock: self.clock.clone(),
            outbox: self.outbox.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

impl<S: Store, P: Producer, C: Clock> Handle<S, P, C> {
    /// The handle of the participant of this name, in no namespace. It records no spans.
    pub fn new(participant: &'static str, store: S, producer: P, clock: C) -> Self {
        Self::traced(participant, store, producer, clock, Arc::new(NoTracer))
    }

    /// The handle of the participant of this name, in no namespace. It records spans with `tracer`.
    pub fn traced(participant: &'static str, store: S, producer: P, clock: C, tracer: Arc<dyn Tracer>) -> Self {
        Self::in_namespace(Namespace::default(), participant, store, producer, clock, tracer)
    }

    /// The handle of the participant of this name, which publishes to the topics of this namespace.
    pub fn in_namespace(
        namespace: Namespace,
        participant: &'static str,
        store: S,
        producer: P,
        clock: C,
        tracer: Arc<dyn Tracer>,
    ) -> Self {
        let (health, metrics) = (Health::default(), Metrics::default());
        let spans = Spans::new(tracer, participant, P::NAMES);
        let (shared_health, shared_metrics) = (health.clone(), metrics.clone());
        let outbox =
            Outbox::new(spans, namespace, store.clone(), producer, clock.clone(), shared_health, shared_metrics);
        Self { store, clock, outbox, health, metrics }
    }

    /// Publishes events that were committed outside a step.
    pub fn outbox(&self) -> Outbox<S, P, C> {
        self.outbox.clone()
    }

    /// What the participant waits for.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What the participant counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
