//! A whole flow under test: several participants on one broker, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use uuid::Uuid;

use super::{
    MemoryBroker, MemoryProducer, MemoryStore, VirtualClock,
    scenario::{Published, record},
};
use crate::{
    clock::Clock,
    event::Event,
    graph::Choreography,
    participant::Participant,
    record::OutRecord,
    runtime::{Handle, Metrics, Options, Outbox, Runtime},
    store::Store,
};

/// A participant that is busy for this much virtual time will never finish.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
const STEP: Duration = Duration::from_millis(20);

/// A flow under test. Its participants run on the same runtime as in production, each with its own database, in virtual
/// time: use it inside `#[tokio::test(start_paused = true)]`.
///
/// ```
/// # use saga_core::{Event, Never, Outcome, Participant, Step, StepResult, handler::Cx, testing::{Flow, MemoryStore}};
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// # use uuid::Uuid;
/// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// # #[event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
/// # struct Requested { trip_id: Uuid }
/// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// # #[event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
/// # struct Reserved { trip_id: Uuid }
/// # async fn reserve(_: &mut Cx<'_, MemoryStore>, trip: Requested) -> StepResult<Reserved, Never> {
/// #     Ok(Outcome::Success(Reserved { trip_id: trip.trip_id }))
/// # }
/// # async fn note(_: &mut Cx<'_, MemoryStore>, _: Reserved) -> StepResult<Never, Never> { Ok(Outcome::Quiet) }
/// # fn flight() -> Participant<MemoryStore> { Participant::named("flight").step(Step::new("reserve", reserve)) }
/// # fn trip() -> Participant<MemoryStore> { Participant::named("trip").step(Step::new("note", note)) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
/// Flow::of([trip(), flight()])
///     .run(async |flow| {
///         let trip_id = Uuid::new_v4();
///         flow.when(&Requested { trip_id }).await;
///         assert_eq!(flow.types(), ["trip.requested", "flight.reserved"]);
///         assert!(flow.dead_letters().is_empty());
///     })
///     .await;
/// # });
/// ```
pub struct Flow<S: Store> {
    members: Vec<(Participant<S>, S)>,
    broker: MemoryBroker,
    clock: VirtualClock,
}

/// A running flow.
pub struct Running<S: Store> {
    broker: MemoryBroker,
    clock: VirtualClock,
    members: BTreeMap<&'static str, Member<S>>,
    choreography: Choreography,
}

struct Member<S: Store> {
    store: S,
    metrics: Metrics,
    outbox: Outbox<S, MemoryProducer, VirtualClock>,
}

impl Flow<MemoryStore> {
    /// A flow of these participants, each with an in-memory store.
    pub fn of(participants: impl IntoIterator<Item = Participant<MemoryStore>>) -> Self {
        Self::on(participants.into_iter().map(|participant| (participant, MemoryStore::default())))
    }
}

impl<S: Store> Flow<S> {
    /// A flow of these participants, each on its database.
    pub fn on(participants: impl IntoIterator<Item = (Participant<S>, S)>) -> Self {
        let (broker, clock) = (MemoryBroker::new(3), VirtualClock::start());
        Self { members: participants.into_iter().collect(), broker, clock }
    }

    /// Runs it on this broker instead of one of its own, so that a second flow goes on where a first one was dropped: a crash of
    /// all participants at once. The databases, the broker's records and the committed offsets stay.
    #[must_use]
    pub fn on_broker(mut self, broker: &MemoryBroker) -> Self {
        self.broker = broker.clone();
        self
    }

    /// Runs the participants until the test is over.
    ///
    /// # Panics
    /// When a participant ends by itself.
    pub async fn run<T>(self, test: impl AsyncFnOnce(&Running<S>) -> T) -> T {
        let Self { members, broker, clock } = self;
        let choreography = Choreography::of(members.iter().map(|(member, _)| member.declaration()).collect());
        let (mut running, mut known) = (FuturesUnordered::new(), BTreeMap::new());
        for (participant, store) in members {
            let name = participant.name();
            let handle = Handle::new(name, store.clone(), broker.producer(), clock);
            let (metrics, outbox) = (handle.metrics().clone(), handle.outbox());
            known.insert(name, Member { store, metrics, outbox });
            let consumer = broker.subscribe(name, &participant.declaration().consumed_topics());
            let run = Runtime::new(participant, handle, Options::default()).run(consumer, std::future::pending());
            running.push(run.map(move |result| (name, result)));
        }
        let flow = Running { broker, clock, members: known, choreography };
        tokio::select! {
            biased;
            Some((name, result)) = running.next() => panic!("{name} has ended: {result:?}"),
            result = test(&flow) => result,
        }
    }
}

impl<S: Store> Running<S> {
    /// Publishes the event from outside and waits until its consequences are handled: see [`Running::settle`]. Returns
    /// the events that were published because of it, in order.
    pub async fn when<E: Event>(&self, event: &E) -> Vec<Published> {
        self.when_record(record(event, Uuid::now_v7(), self.clock.now())).await
    }

    /// Publishes a record of any kind from outside.
    pub async fn when_record(&self, record: OutRecord) -> Vec<Published> {
        let before = self.broker.history().len();
        self.broker.append(record);
        self.settle().await;
        self.broker.history()[before + 1..].iter().map(Published::of).collect()
    }

    /// Publishes the event from outside and waits for nothing: for sagas that run at once. [`Running::settle`] waits.
    pub fn publish<E: Event>(&self, event: &E) {
        self.broker.append(record(event, Uuid::now_v7(), self.clock.now()));
    }

    /// Advances the time and waits until everything that became due is handled.
    pub async fn after(&self, time: Duration) -> Vec<Published> {
        let before = self.broker.history().len();
        self.clock.sleep(time).await;
        self.settle().await;
        self.broker.history()[before..].iter().map(Published::of).collect()
    }

    /// Advances the time without waiting for the participants.
    pub async fn pass(&self, time: Duration) {
        self.clock.sleep(time).await;
    }

    /// Whether every participant has handled all its events, apart from parked ones.
    pub fn is_caught_up(&self) -> bool {
        self.members.keys().all(|name| self.broker.is_caught_up(name))
    }

    /// Waits until no participant has work left: all events are handled, published and acknowledged, and no step is due
    /// for a retry. Does not wait for sagas that are blocked by a dead letter, nor for deadlines.
    ///
    /// # Panics
    /// When a participant is busy for more than a day.
    pub async fn settle(&self) {
        let (begun, mut quiet) = (self.clock.now(), 0);
        // Twice in a row: what one participant has just published, another may not have read yet.
        while quiet < 2 {
            self.clock.sleep(STEP).await;
            quiet = if self.is_quiet().await { quiet + 1 } else { 0 };
            let waited = Duration::try_from(self.clock.now().duration_since(begun)).unwrap_or_default();
            assert!(waited < PATIENCE, "a participant is busy for more than a day: {:?}", self.types());
        }
    }

    async fn is_quiet(&self) -> bool {
        for (name, member) in &self.members {
            let summary = member.store.summary().await.unwrap_or_default();
            if summary.parked_sagas > 0 || summary.outbox_pending > 0 || !self.broker.is_caught_up(name) {
                return false;
            }
        }
        true
    }

    /// All events so far, without dead letters, in the order of writing.
    pub fn events(&self) -> Vec<Published> {
        self.written(|topic| !topic.ends_with(".dlq"))
    }

    /// Their types.
    pub fn types(&self) -> Vec<String> {
        self.events().into_iter().map(|event| event.event_type).collect()
    }

    /// All dead letters so far.
    pub fn dead_letters(&self) -> Vec<Published> {
        self.written(|topic| topic.ends_with(".dlq"))
    }

    fn written(&self, of: impl Fn(&str) -> bool) -> Vec<Published> {
        self.broker.history().iter().filter(|record| of(&record.topic)).map(Published::of).collect()
    }

    /// The database of this participant.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn store(&self, participant: &str) -> &S {
        &self.member(participant).store
    }

    /// The metrics of this participant: calls of its effects, retries, duplicates, late events.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn metrics(&self, participant: &str) -> &Metrics {
        &self.member(participant).metrics
    }

    /// Publishes this participant's events outside any step.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn outbox(&self, participant: &str) -> Outbox<S, MemoryProducer, VirtualClock> {
        self.member(participant).outbox.clone()
    }

    fn member(&self, participant: &str) -> &Member<S> {
        let known = self.members.get(participant);
        known.unwrap_or_else(|| panic!("no participant is named {participant}"))
    }

    /// The declarations together, to be checked.
    pub fn choreography(&self) -> &Choreography {
        &self.choreography
    }
}
