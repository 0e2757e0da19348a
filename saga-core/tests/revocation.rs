//! Partitions that are revoked while a transaction for their events is in flight.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use saga_core::{
    Outcome, Participant, Step, StepError, StepResult,
    clock::Clock,
    handler::{Call, Cx},
    record::{Record, TopicPartition},
    runtime::{Handle, Options, Runtime},
    store::Store,
    testing::{Fault, MemoryBroker, MemoryStore, VirtualClock},
    transport::{Consumer, RevokeGuard, Signal},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::common::{
    record,
    trip::{Booked, Taken},
};

/// Ends as the test decides.
struct Script {
    signals: UnboundedReceiver<Signal>,
    pending: Option<Signal>,
    stored: Arc<Mutex<Vec<i64>>>,
}

impl Consumer for Script {
    async fn next(&mut self, room: usize) -> Signal {
        loop {
            match self.pending.take() {
                Some(signal) if room > 0 || !matches!(signal, Signal::Records(_)) => return signal,
                Some(signal) => {
                    self.pending = Some(signal);
                    std::future::pending::<()>().await;
                }
                None => match self.signals.recv().await {
                    Some(signal) => self.pending = Some(signal),
                    None => std::future::pending().await,
                },
            }
        }
    }

    fn store_offsets(&self, offsets: &[(TopicPartition, i64)]) {
        self.stored.lock().unwrap().extend(offsets.iter().map(|(_, offset)| *offset));
    }

    fn pause(&self, _: &[TopicPartition], _: bool) {}

    async fn close(self) {}
}

struct World {
    broker: MemoryBroker,
    store: MemoryStore,
    clock: VirtualClock,
    signals: UnboundedSender<Signal>,
    stored: Arc<Mutex<Vec<i64>>>,
}

impl World {
    async fn with(participant: Participant<MemoryStore>, test: impl AsyncFnOnce(&Self)) {
        let (store, clock, broker) = (MemoryStore::default(), VirtualClock::start(), MemoryBroker::new(1));
        let (sender, signals) = unbounded_channel();
        let stored = Arc::new(Mutex::new(vec![]));
        let consumer = Script { signals, pending: None, stored: stored.clone() };
        let handle = Handle::new("seat", store.clone(), broker.producer(), clock);
        let run = Runtime::new(participant, handle, Options::default()).run(consumer, std::future::pending());
        let world = Self { broker, store, clock, signals: sender, stored };
        tokio::select! {
            result = run => panic!("{result:?}"),
            () = test(&world) => {}
        }
    }

    fn say(&self, signal: Signal) {
        self.signals.send(signal).unwrap();
    }

    async fn pass(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// An event of the partition is in a transaction whose begin the database delays; meanwhile the partition is
    /// revoked, and then the database answers.
    async fn revoke_during_a_transaction(&self) -> Record {
        self.say(Signal::Assigned(partition()));
        self.pass(3).await;
        let sealed = record(&Booked::anew(), self.clock);
        let (key, value, headers) = (sealed.key, sealed.value, sealed.headers);
        let record = Record { topic: "trip.events".into(), partition: 0, offset: 0, key, value, headers };
        self.store.inject([Fault::Begin; 4]);
        self.say(Signal::Records(vec![record.clone()]));
        self.clock.sleep(Duration::from_millis(500)).await;
        self.say(Signal::Revoked(partition(), RevokeGuard::unguarded()));
        self.pass(30).await;
        record
    }

    fn stored(&self) -> Vec<i64> {
        self.stored.lock().unwrap().clone()
    }
}

fn partition() -> Vec<TopicPartition> {
    vec![TopicPartition { topic: "trip.events".into(), partition: 0 }]
}

async fn take(_: &mut Cx<'_, MemoryStore>, trip: Booked, (): ()) -> StepResult<Taken> {
    Ok(Outcome::Success(Taken { id: trip.id }))
}

#[tokio::test(start_paused = true)]
async fn no_call_begins_for_a_partition_that_was_revoked_while_its_start_was_recorded() {
    let calls = Arc::new(AtomicUsize::new(0));
    let called = calls.clone();
    let ask = async move |_: &Call, _: &Booked| {
        called.fetch_add(1, SeqCst);
        Ok(())
    };
    World::with(Participant::named("seat").step(Step::with_effect("take", ask, take)), async |world| {
        let record = world.revoke_during_a_transaction().await;
        assert_eq!(calls.load(SeqCst), 0, "the next owner calls");
        assert_eq!(world.stored(), [0; 0], "and it is not acknowledged");
        world.say(Signal::Assigned(partition()));
        world.say(Signal::Records(vec![record]));
        world.pass(3).await;
        assert_eq!((calls.load(SeqCst), world.broker.records("seat.events").len()), (1, 1));
        assert_eq!(world.stored(), [1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_event_of_a_partition_that_was_revoked_meanwhile_is_dead_lettered() {
    let refuse =
        async |_: &mut Cx<'_, MemoryStore>, _: Booked| -> StepResult<Taken> { Err(StepError::permanent("no")) };
    World::with(Participant::named("seat").step(Step::new("take", refuse)), async |world| {
        world.revoke_during_a_transaction().await;
        assert_eq!(world.broker.records("seat.dlq").len(), 0, "the next owner decides");
        assert_eq!(world.stored(), [0; 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_committed_during_the_revocation_of_its_partition_is_acknowledged() {
    let take = async |_: &mut Cx<'_, MemoryStore>, trip: Booked| -> StepResult<Taken> {
        Ok(Outcome::Success(Taken { id: trip.id }))
    };
    World::with(Participant::named("seat").step(Step::new("take", take)), async |world| {
        world.revoke_during_a_transaction().await;
        assert_eq!(world.broker.records("seat.events").len(), 1);
        assert_eq!(world.stored(), [1]);
        assert_eq!(world.store.summary().await.unwrap().parked_sagas, 0);
    })
    .await;
}
