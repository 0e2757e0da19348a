//! A user's own `tracing` spans in the traces of sagas: the real runtime, subscriber and exporter, a store in memory.
#![allow(clippy::unwrap_used, reason = "a test that fails")]

use std::{sync::Arc, time::Duration};

use saga_core::{
    Event, Outcome, Participant, Step, StepError, StepResult,
    clock::Clock,
    envelope::{Outgoing, seal},
    event::EventType,
    handler::{Call, Cx},
    runtime::{Handle, Options, Runtime},
    store::Store,
    testing::{Fault, MemoryBroker, MemoryStore, VirtualClock},
    trace::TraceContext,
};
use saga_service::{
    config::TraceConfig,
    telemetry::{self, Filter, LogConfig, LogFormat, OtlpTracer},
    testing::{Collector, Received},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.booked", topic = "trip.events", saga = "id")]
struct Booked {
    id: Uuid,
    mood: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.taken", topic = "seat.events", saga = "id")]
struct Taken {
    id: Uuid,
}

/// What a user's own code looks like: a span with a field, and one inside it, across an await.
#[tracing::instrument(skip_all, fields(mood = trip.mood))]
async fn look_up(trip: &Booked) -> Result<(), StepError> {
    tokio::task::yield_now().await;
    async { tokio::task::yield_now().await }.instrument(tracing::info_span!("count")).await;
    tracing::debug_span!("too fine").in_scope(|| {});
    if trip.mood == "chatty" {
        (0..200).for_each(|_| tracing::info_span!("again").in_scope(|| {}));
    }
    if trip.mood == "broken" { Err(StepError::permanent("no such seat")) } else { Ok(()) }
}

async fn take(_: &mut Cx<'_, MemoryStore>, trip: Booked) -> StepResult<Taken> {
    look_up(&trip).await?;
    Ok(Outcome::Success(Taken { id: trip.id }))
}

async fn take_all(_: &mut Cx<'_, MemoryStore>, trips: Vec<Booked>) -> Result<Vec<Outcome<Taken>>, StepError> {
    look_up(&trips[0]).await?;
    Ok(trips.into_iter().map(|trip| Outcome::Success(Taken { id: trip.id })).collect())
}

async fn ask(_: &Call, trip: &Booked) -> Result<String, StepError> {
    look_up(trip).await?;
    Ok(String::new())
}

async fn pay(_: &mut Cx<'_, MemoryStore>, trip: Booked, _: String) -> StepResult<Taken> {
    Ok(Outcome::Success(Taken { id: trip.id }))
}

fn seats() -> Participant<MemoryStore> {
    Participant::named("seat").step(Step::new("take", take)).completes_with::<Taken>()
}

const PARENT: &str = "00-0000000000000000000000000000002a-00000000000000ff-01";
const UNSAMPLED: &str = "00-0000000000000000000000000000002a-00000000000000ff-00";

fn booked(mood: &str) -> Booked {
    Booked { id: Uuid::now_v7(), mood: mood.to_owned() }
}

fn trace_of(trip: &Booked) -> String {
    trip.id.simple().to_string()
}

/// What a participant exports when it handles these events, which it finds all at once.
async fn exported(
    participant: Participant<MemoryStore>,
    protocol: &str,
    faults: &[Fault],
    trips: &[Booked],
    traceparent: Option<&str>,
) -> Exported {
    // What is logged does not matter.
    let _ = telemetry::init(&LogConfig { filter: Filter::parse("error").unwrap(), format: LogFormat::Pretty }).unwrap();
    let collector = Collector::start().unwrap();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_on".to_owned()),
    ];
    let config = TraceConfig::of(variables.map(|(name, value)| (name.into(), value.into()))).unwrap();
    let tracer = Arc::new(OtlpTracer::start(&config, "seat").unwrap().unwrap());
    let (broker, store, clock) = (MemoryBroker::new(1), MemoryStore::default(), VirtualClock::start());
    let trace = TraceContext { traceparent: traceparent.map(str::to_owned), tracestate: None };
    for trip in trips {
        let outgoing = Outgoing {
            id: Uuid::now_v7(),
            source: "test",
            saga_id: Event::saga_id(trip),
            causation_id: None,
            time: clock.now(),
            trace: &trace,
            null_compensation: false,
        };
        broker.append(seal(EventType::of::<Booked>(), serde_json::to_vec(trip).unwrap(), &outgoing));
    }
    store.inject(faults.iter().copied());
    let handle = Handle::traced("seat", store.clone(), broker.producer(), clock, tracer.clone());
    let consumer = broker.subscribe("seat", &participant.declaration().consumed_topics());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runtime = Runtime::new(participant, handle, Options::default()).run(consumer, async {
        let _ = stopped.await;
    });
    let drive = async {
        for _ in 0..10_000 {
            clock.sleep(Duration::from_millis(20)).await;
            if store.summary().await.unwrap().outbox_pending == 0 && broker.is_caught_up("seat") {
                break;
            }
        }
        drop(stop);
    };
    let (result, ()) = futures::join!(runtime, drive);
    result.unwrap();
    tracer.shutdown(Duration::from_secs(20));
    Exported(collector.spans())
}

struct Exported(Vec<Received>);

impl Exported {
    fn named(&self, name: &str) -> Vec<&Received> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    fn only(&self, name: &str) -> &Received {
        let [only] = self.named(name)[..] else { panic!("{name}: {:#?}", self.0) };
        only
    }

    fn of(&self, trip: &Booked, name: &str) -> &Received {
        let trace = trace_of(trip);
        let of_trip: Vec<_> = self.named(name).into_iter().filter(|span| span.trace_id == trace).collect();
        let [only] = of_trip[..] else { panic!("{name} of {trace}: {:#?}", self.0) };
        only
    }
}

fn is_below(child: &Received, parent: &Received) {
    assert_eq!(child.trace_id, parent.trace_id);
    assert_eq!(child.parent_id.as_ref(), Some(&parent.span_id), "{child:?} {parent:?}");
}

#[tokio::test(start_paused = true)]
async fn spans_of_a_handler_are_below_its_transaction() {
    for protocol in ["http/protobuf", "grpc"] {
        let exported = exported(seats(), protocol, &[], &[booked("fine")], Some(PARENT)).await;
        let (user, inner) = (exported.only("look_up"), exported.only("count"));
        is_below(user, exported.only("transaction take"));
        is_below(inner, user);
        assert_eq!(user.attributes["mood"], "fine");
        assert_eq!(user.resource["service.name"], "seat-service");
        assert!(user.end >= inner.end && user.start <= inner.start, "{user:?} {inner:?}");
        assert!(exported.named("too fine").is_empty());
        // The framework's own, for log lines.
        assert!(exported.named("step").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn spans_of_an_effect_are_below_its_call() {
    let participant = Participant::named("seat").step(Step::with_effect("pay", ask, pay)).completes_with::<Taken>();
    let exported = exported(participant, "grpc", &[], &[booked("fine")], Some(PARENT)).await;
    is_below(exported.only("look_up"), exported.only("effect pay"));
}

#[tokio::test(start_paused = true)]
async fn spans_of_an_effect_that_fails_are_kept() {
    let participant = Participant::named("seat").step(Step::with_effect("pay", ask, pay)).completes_with::<Taken>();
    let exported = exported(participant, "grpc", &[], &[booked("broken")], Some(PARENT)).await;
    is_below(exported.only("look_up"), exported.only("effect pay"));
}

#[tokio::test(start_paused = true)]
async fn each_of_several_events_has_the_spans_of_its_own_handling() {
    let trips = [booked("one"), booked("two"), booked("three")];
    let exported = exported(seats(), "grpc", &[], &trips, None).await;
    for trip in &trips {
        let transaction = exported.of(trip, "transaction take");
        assert_eq!(transaction.attributes["saga.batch.events"], "3", "they share it");
        assert!(transaction.links.is_empty());
        let user = exported.of(trip, "look_up");
        is_below(user, transaction);
        assert_eq!(user.attributes["mood"], trip.mood);
    }
}

#[tokio::test(start_paused = true)]
async fn spans_about_two_sagas_at_once_are_linked_to_each() {
    let participant = Participant::named("seat").step(Step::new("take", take_all)).completes_with::<Taken>();
    let trips = [booked("one"), booked("two")];
    let exported = exported(participant, "grpc", &[], &trips, None).await;
    let together = exported.only("handle take");
    is_below(exported.only("look_up"), together);
    assert_eq!(together.parent_id, None);
    let transactions = trips.each_ref().map(|trip| exported.of(trip, "transaction take"));
    let ids = |span: &Received| (span.trace_id.clone(), span.span_id.clone());
    assert_eq!(together.links, transactions.map(ids));
    for transaction in transactions {
        assert_eq!(transaction.links, [ids(together)], "and back");
        assert_ne!(transaction.trace_id, together.trace_id);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_transaction_that_is_redone_only_the_attempt_that_committed_is_exported() {
    for fault in [Fault::Deadlock, Fault::Commit] {
        let trips = [booked("one"), booked("two")];
        let exported = exported(seats(), "grpc", &[fault], &trips, None).await;
        for trip in &trips {
            is_below(exported.of(trip, "look_up"), exported.of(trip, "transaction take"));
            is_below(exported.of(trip, "count"), exported.of(trip, "look_up"));
        }
        assert_eq!(exported.named("look_up").len(), 2, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_divided_leaves_the_spans_of_what_committed() {
    let trips = [booked("one"), booked("broken"), booked("two")];
    let exported = exported(seats(), "grpc", &[], &trips, None).await;
    for trip in [&trips[0], &trips[2]] {
        is_below(exported.of(trip, "look_up"), exported.of(trip, "transaction take"));
    }
    let moods: Vec<_> = exported.named("look_up").iter().map(|span| span.attributes["mood"].clone()).collect();
    assert!(moods.len() == 2 && !moods.contains(&"broken".to_owned()), "{moods:?}");
}

#[tokio::test(start_paused = true)]
async fn so_many_spans_of_one_attempt_are_kept_and_no_more() {
    let exported = exported(seats(), "grpc", &[], &[booked("chatty")], Some(PARENT)).await;
    let kept = exported.named("again").len() + exported.named("count").len() + exported.named("look_up").len();
    assert_eq!(kept, 128);
}

#[tokio::test(start_paused = true)]
async fn of_a_trace_that_is_not_sampled_nothing_is_exported() {
    let exported = exported(seats(), "grpc", &[], &[booked("fine")], Some(UNSAMPLED)).await;
    assert!(exported.0.is_empty(), "{:#?}", exported.0);
}
