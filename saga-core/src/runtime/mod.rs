//! The runtime: takes events from a transport, runs a participant's steps in its database, publishes what they end in.
//!
//! It is generic over transport, store and clock, so that the same code runs on Kafka, in memory and in virtual time.
//!
//! | folder | what happens there |
//! |---|---|
//! | `worker` | the loop that takes events, keeps one transaction open at a time, and moves each event to its next stage |
//! | `stage` | which stage may follow which: a pure table |
//! | `consume` | a record is read, queued behind the earlier events of its saga, and its offset is kept |
//! | `transaction` | events are admitted, run and committed |
//! | `effects` | outside systems are called between two transactions |
//! | `publish` | committed events and dead letters are handed to the broker |
//! | `deadlines` | timers that are due call their handler |
//! | `telemetry` | metrics, spans, readiness |

mod after_failure;
mod consume;
mod deadlines;
mod effects;
mod handle;
mod in_flight;
mod options;
mod publish;
mod shared;
mod stage;
mod telemetry;
mod transaction;
mod worker;

use std::{cell::RefCell, rc::Rc};

use futures::{
    FutureExt,
    future::{Either, select},
};

use crate::{
    clock::Clock,
    participant::Participant,
    store::Store,
    transport::{Consumer, Producer},
};
use shared::Shared;

pub use handle::Handle;
pub use options::Options;
pub use publish::outbox::{AnyOutbox, Outbox};
pub use telemetry::{
    health::Health,
    metrics::{CallLabel, HandledLabel, Metrics, OutcomeLabel, ReasonLabel, StepLabel, StepOnly},
};

/// Why a participant stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The transport can never work again in this process.
    #[error("{0}")]
    Fatal(String),
}

/// A participant, ready to run.
pub struct Runtime<S: Store, P: Producer, C: Clock> {
    shared: Rc<Shared<S, P, C>>,
}

impl<S: Store, P: Producer, C: Clock> Runtime<S, P, C> {
    /// The runtime of a participant. Its handlers' futures need not be `Send`: give it a thread of its own.
    pub fn new(participant: Participant<S>, handle: Handle<S, P, C>, options: Options) -> Self {
        let (has_deadlines, has_joins) = (participant.has_deadlines(), participant.has_joins());
        let Handle { store, clock, outbox, health, metrics } = handle;
        let spans = outbox.spans().clone();
        let (handler_failures, failing) = (RefCell::default(), RefCell::default());
        telemetry::metrics::appear(&metrics, &participant);
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
            has_joins,
            handler_failures,
            failing,
        };
        Self { shared: Rc::new(shared) }
    }

    /// Runs until `stop` completes, then finishes the events in flight, publishes, stores the offsets and closes the consumer.
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
        // A dropped sender completes it.
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
