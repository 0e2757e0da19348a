//! Several participants with a step of the same name: each publishes its own event, and calls with its own key.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use saga_core::{
    Event, Never, Outcome, Participant, SagaId, Step, StepResult,
    clock::Clock,
    envelope::{Outgoing, header, seal},
    event::EventType,
    handler::{Call, Cx},
    record::{Header, OutRecord, Record},
    runtime::{Handle, Metrics, Options, Runtime},
    testing::{MemoryBroker, MemoryStore, VirtualClock},
    trace::TraceContext,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! event {
    ($name:ident, $event:literal, $topic:literal) => {
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
        #[event(name = $event, topic = $topic, saga = "id")]
        struct $name {
            id: Uuid,
        }
    };
}
event!(Requested, "trip.requested", "trip.events");
event!(FlightReserved, "flight.reserved", "flight.events");
event!(HotelReserved, "hotel.reserved", "hotel.events");
event!(FlightNoted, "trip.flight_noted", "trip.events");
event!(HotelNoted, "trip.hotel_noted", "trip.events");

type Keys = Arc<Mutex<Vec<Uuid>>>;

async fn flight(_: &mut Cx<'_, MemoryStore>, trip: Requested, _: ()) -> StepResult<FlightReserved, Never> {
    Ok(Outcome::Success(FlightReserved { id: trip.id }))
}
async fn hotel(_: &mut Cx<'_, MemoryStore>, trip: Requested, _: ()) -> StepResult<HotelReserved, Never> {
    Ok(Outcome::Success(HotelReserved { id: trip.id }))
}
async fn note_flight(_: &mut Cx<'_, MemoryStore>, f: FlightReserved) -> StepResult<FlightNoted, Never> {
    Ok(Outcome::Success(FlightNoted { id: f.id }))
}
async fn note_hotel(_: &mut Cx<'_, MemoryStore>, h: HotelReserved) -> StepResult<HotelNoted, Never> {
    Ok(Outcome::Success(HotelNoted { id: h.id }))
}

fn called(keys: &Keys) -> impl AsyncFn(&Call, &Requested) -> Result<(), saga_core::StepError> + Send + Sync + 'static {
    let keys = keys.clone();
    async move |call: &Call, _: &Requested| {
        keys.lock().unwrap().push(call.idempotency_key);
        Ok(())
    }
}

struct World {
    broker: MemoryBroker,
    clock: VirtualClock,
}

impl World {
    fn start(&self, participant: Participant<MemoryStore>) -> Metrics {
        let (name, declaration) = (participant.name(), participant.declaration());
        let handle = Handle::new(name, MemoryStore::default(), self.broker.producer(), self.clock);
        let metrics = handle.metrics().clone();
        let consumer = self.broker.subscribe(name, &declaration.consumed_topics());
        let runtime = Runtime::new(participant, handle, Options::default());
        tokio::task::spawn_local(runtime.run(consumer, std::future::pending()));
        metrics
    }

    async fn settle(&self) {
        self.clock.sleep(Duration::from_secs(5)).await;
    }

    fn ids(&self, topic: &str) -> Vec<String> {
        self.broker.records(topic).iter().map(id).collect()
    }
}

fn id(record: &Record) -> String {
    let header = record.headers.iter().find(|h| h.is(header::ID)).and_then(|h| h.value.clone());
    String::from_utf8(header.unwrap()).unwrap()
}

fn requested(saga: SagaId, id: Uuid, clock: VirtualClock) -> OutRecord {
    let trace = TraceContext::default();
    let outgoing = Outgoing {
        id,
        source: "shop",
        saga_id: saga,
        causation_id: None,
        time: clock.now(),
        trace: &trace,
        null_compensation: false,
    };
    seal(EventType::of::<Requested>(), format!(r#"{{"id":"{saga}"}}"#).into_bytes(), &outgoing)
}

#[tokio::test(start_paused = true)]
async fn participants_with_a_step_of_one_name_publish_and_call_under_their_own_ids() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let world = World { broker: MemoryBroker::new(1), clock: VirtualClock::start() };
            let keys = Keys::default();
            world.start(Participant::named("flight").step(Step::with_effect("reserve", called(&keys), flight)));
            world.start(Participant::named("hotel").step(Step::with_effect("reserve", called(&keys), hotel)));
            let trip = Participant::named("trip")
                .step(Step::new("note_flight", note_flight))
                .step(Step::new("note_hotel", note_hotel));
            let trip = world.start(trip);
            world.broker.append(requested(SagaId::random(), Uuid::now_v7(), world.clock));
            world.settle().await;

            let (flights, hotels) = (world.ids("flight.events"), world.ids("hotel.events"));
            assert_eq!((flights.len(), hotels.len()), (1, 1));
            assert_ne!(flights, hotels, "no consumer takes the two for one event");
            assert_eq!(world.ids("trip.events").len(), 3, "the trip has observed both results");
            assert_eq!(keys.lock().unwrap().iter().collect::<BTreeSet<_>>().len(), 2, "a bank would take money twice");
            let skipped: u64 = ["note_flight", "note_hotel"]
                .map(|step| trip.duplicates.get_or_create(&saga_core::runtime::StepLabel { step, op: "action" }).get())
                .iter()
                .sum();
            assert_eq!(skipped, 0);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_is_identified_by_its_source_and_its_id_within_its_saga() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let world = World { broker: MemoryBroker::new(1), clock: VirtualClock::start() };
            let keys = Keys::default();
            let flight = Participant::named("flight").step(Step::with_effect("reserve", called(&keys), flight));
            let metrics = world.start(flight);
            let numbered = |source: &str, saga| {
                let mut record = requested(saga, Uuid::nil(), world.clock);
                record.headers.retain(|h| !h.is(header::ID) && !h.is(header::SOURCE));
                record.headers.extend([Header::text(header::ID, "1"), Header::text(header::SOURCE, source)]);
                record
            };
            let (one, other) = (SagaId::random(), SagaId::random());
            for (source, saga) in [("/web", one), ("/web", other), ("/web", one), ("/phone", one)] {
                world.broker.append(numbered(source, saga));
            }
            world.settle().await;
            let published = world.ids("flight.events");
            assert_eq!(published.len(), 2, "one for each saga");
            assert_ne!(published[0], published[1], "producers number their events within each saga");
            let label = saga_core::runtime::StepLabel { step: "reserve", op: "action" };
            assert_eq!(metrics.duplicates.get_or_create(&label).get(), 1, "the same source and id");
            assert_eq!(metrics.repetitions.get_or_create(&label).get(), 1, "another event of the same type");
        })
        .await;
}
