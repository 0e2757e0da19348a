//! The runtime: takes events from a transport, runs a participant's steps in its database, publishes what they end in.
//!
//! Generic over transport, store and clock, so that the very same code runs on Kafka, in memory and in virtual time. What
//! to do with an event is decided by pure functions ([`crate::barrier::decide`], `work::read`, `work::after_failure`,
//! `stage::next`, `offsets`, `lanes`, `breaker`); this module and `worker` only carry the decisions out.

mod attempt;
mod batch;
mod blame;
mod breaker;
mod burial;
mod effects;
mod health;
mod lanes;
mod metrics;
mod offsets;
mod plan;
mod relay;
mod spans;
mod stage;
mod timers;
mod work;
mod worker;
mod zeroes;

use std::{borrow::Cow, cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{Either, select},
};

use blame::Blame;
pub use health::Health;
use jiff::Timestamp;
pub use metrics::{CallLabel, HandledLabel, Metrics, OutcomeLabel, ReasonLabel, StepLabel, StepOnly};
pub use relay::{Outbox, Relaying};
use spans::Spans;
use timers::Failing;

use crate::{
    Namespace,
    clock::Clock,
    graph::Ending,
    participant::Participant,
    step::End,
    store::{Committed, OutboxRow, Store},
    trace::{NoTracer, Tracer},
    transport::{Consumer, Producer},
};

/// How much a participant takes on at once, and how long it waits.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events that may share a transaction.
    pub max_batch: usize,
    /// Events in hand: taken from the broker and not done yet.
    pub max_in_hand: usize,
    /// Bytes in hand, above which no more is taken.
    pub max_bytes_in_hand: usize,
    /// The first pause when the database or the broker is away; it doubles from there.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
    /// How long a claimed parked event belongs to this process: longer than its effect and its transactions take, and as
    /// long as it waits when the process dies meanwhile.
    pub lease: Duration,
    /// How long a transaction waits for a row that somebody else has locked. What it still waits for then is found by halving
    /// the batch, each half with a tenth of it, and parked; all that takes four times as long at most.
    pub patience: Duration,
    /// How often parked sagas and timers are looked for that another process left behind.
    pub look_every: Duration,
    /// On shutdown: how long work in hand may take before it is left to the next start.
    pub drain: Duration,
    /// Every event type of the choreography. A type that is not among them is warned of, once; empty: none is.
    pub known_events: Vec<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_batch: 500,
            max_in_hand: 2000,
            max_bytes_in_hand: 32 << 20,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            patience: Duration::from_millis(250),
            look_every: Duration::from_secs(1),
            drain: Duration::from_secs(5),
            known_events: Vec::new(),
        }
    }
}

/// Why a participant stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The transport can never work again in this process.
    #[error("{0}")]
    Fatal(String),
}

/// What a participant's runtime shares with the rest of its process: the outbox, health and metrics. Make it first; the
/// participant's own routes need the outbox, and the runtime is made of both.
pub struct Handle<S: Store, P: Producer, C: Clock> {
    store: S,
    clock: C,
    outbox: Outbox<S, P, C>,
    health: Health,
    metrics: Metrics,
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

    /// The handle of the participant of this name, in no namespace, which records its spans there.
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
        let spans = Spans::new(tracer, participant);
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

/// A participant, ready to run.
pub struct Runtime<S: Store, P: Producer, C: Clock> {
    shared: Rc<Shared<S, P, C>>,
}

/// What every part of the runtime works with.
struct Shared<S: Store, P: Producer, C: Clock> {
    participant: Participant<S>,
    store: S,
    clock: C,
    outbox: Outbox<S, P, C>,
    health: Health,
    metrics: Metrics,
    spans: Spans,
    options: Options,
    has_deadlines: bool,
    blame: RefCell<Blame>,
    failing: RefCell<Failing>,
}

impl<S: Store, P: Producer, C: Clock> Shared<S, P, C> {
    /// Whether a saga ends in this.
    fn ends(&self, end: &End) -> bool {
        matches!(end, End::Event { event_type, .. } if self.participant.ending(event_type.name).is_some())
    }

    /// The participant's consumer group.
    fn group(&self) -> Cow<'static, str> {
        self.outbox.namespace().of(self.participant.name)
    }

    /// Counts the sagas that began and ended in a transaction that has committed.
    fn progressed(&self, committed: &Committed, now: Timestamp, published: &[OutboxRow]) {
        self.metrics.started.inc_by(committed.begun);
        for row in published {
            let Some(ending) = self.participant.ending(&row.event_type) else { continue };
            let label = OutcomeLabel { outcome: outcome(ending) };
            self.metrics.finished.get_or_create(&label).inc();
            let begun = committed.ended.iter().find(|progress| progress.saga_id == row.saga_id);
            if let Some(begun) = begun {
                let took = now.duration_since(begun.at).as_secs_f64().max(0.0);
                self.metrics.duration_seconds.get_or_create(&label).observe(took);
            }
        }
    }
}

fn outcome(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Undone => "cancelled",
    }
}

impl<S: Store, P: Producer, C: Clock> Runtime<S, P, C> {
    /// The runtime of a participant. Its handlers' futures need not be `Send`: give it a thread of its own.
    pub fn new(participant: Participant<S>, handle: Handle<S, P, C>, options: Options) -> Self {
        let has_deadlines = participant.steps.iter().any(|step| step.expire.is_some());
        let Handle { store, clock, outbox, health, metrics } = handle;
        let spans = outbox.spans().clone();
        let (blame, failing) = (RefCell::default(), RefCell::default());
        zeroes::appear(&metrics, &participant);
        let shared = Shared {
            participant,
            store,
            clock,
            outbox,
            health,
            metrics,
            spans,
            options,
            has_deadlines,
            blame,
            failing,
        };
        Self { shared: Rc::new(shared) }
    }

    /// Runs until `stop` completes, then finishes what is in hand, publishes it, stores the offsets and closes the consumer.
    ///
    /// # Errors
    /// When the transport reports that it can never work again.
    pub async fn run(self, consumer: impl Consumer, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let shared = self.shared;
        let (worker_done, stop_relay) = tokio::sync::oneshot::channel::<()>();
        let worker = async {
            let result = worker::Worker::new(shared.clone()).run(consumer, stop).await;
            drop(worker_done);
            result
        };
        // Closed either way: a sender that is dropped says the same as one that sends.
        let stop_relay = stop_relay.map(|_| ()).shared();
        let give_up = async {
            stop_relay.clone().await;
            shared.clock.sleep(shared.options.drain).await;
        };
        let relay = async {
            futures::pin_mut!(give_up);
            let relay = shared.outbox.run(stop_relay.clone());
            futures::pin_mut!(relay);
            if let Either::Right(_) = select(relay, give_up).await {
                tracing::warn!("not all events were acknowledged in time; the outbox keeps them for the next start");
            }
        };
        let (result, ()) = futures::join!(worker, relay);
        result
    }
}
