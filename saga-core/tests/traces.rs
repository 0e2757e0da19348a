//! The spans that the runtime records, in memory and virtual time: one trace per saga, each span once, whatever went wrong meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{sync::Arc, time::Duration};

use saga_core::{
    Event, Outcome, Participant, SagaId, Step, StepError, StepResult,
    clock::Clock,
    envelope::{Outgoing, header, seal},
    event::EventType,
    handler::{Call, Cx},
    runtime::{Handle, Metrics, Options, Runtime},
    store::Store,
    testing::{Fault, MemoryBroker, MemoryStore, MemoryTracer, VirtualClock},
    trace::{Kind, NewSpan, Span, TraceContext, Tracer, Value},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.booked", topic = "trip.events", saga = "id")]
struct Booked {
    id: Uuid,
    mood: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.cancelled", topic = "trip.events", saga = "id")]
struct Cancelled {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.taken", topic = "seat.events", saga = "id")]
struct Taken {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.denied", topic = "seat.events", saga = "id")]
struct Denied {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.freed", topic = "seat.events", saga = "id")]
struct Freed {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.expired", topic = "seat.events", saga = "id")]
struct Expired {
    id: Uuid,
}

impl From<Cancelled> for Freed {
    fn from(why: Cancelled) -> Self {
        Self { id: why.id }
    }
}

async fn take(cx: &mut Cx<'_, MemoryStore>, trip: Booked) -> StepResult<Taken, Denied> {
    match trip.mood.as_str() {
        "full" => Ok(Outcome::Refused(Denied { id: trip.id })),
        "broken" => Err(StepError::permanent("no such seat")),
        "slow" => {
            let tries: u32 = cx.tx().get("tries").unwrap_or(0);
            if tries < 1 { Err(StepError::transient("not yet")) } else { Ok(Outcome::Success(Taken { id: trip.id })) }
        }
        _ => Ok(Outcome::Success(Taken { id: trip.id })),
    }
}

async fn free(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
    Ok(why.into())
}

async fn expire(_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>) -> Result<Vec<Outcome<Expired>>, StepError> {
    Ok(sagas.into_iter().map(|saga| Outcome::Success(Expired { id: saga.as_uuid() })).collect())
}

async fn ask(call: &Call, _: &Booked) -> Result<String, StepError> {
    Ok(call.trace.traceparent.clone().unwrap_or_default())
}

async fn pay(cx: &mut Cx<'_, MemoryStore>, trip: Booked, context_of_call: String) -> StepResult<Taken> {
    cx.tx().put("traceparent", &context_of_call);
    Ok(Outcome::Success(Taken { id: trip.id }))
}

fn seats() -> Participant<MemoryStore> {
    Participant::named("seat")
        .step(Step::new("take", take).undone_by(free))
        .completes_with::<Taken>()
        .compensates_with::<Freed>()
}

/// Flags of a trace that is recorded, and of one that is not.
const PARENT: &str = "00-0000000000000000000000000000002a-00000000000000ff-01";
const UNSAMPLED: &str = "00-0000000000000000000000000000002a-00000000000000ff-00";
const TRACE: u128 = 42;

struct World {
    broker: MemoryBroker,
    store: MemoryStore,
    clock: VirtualClock,
    tracer: MemoryTracer,
    propagates: bool,
}

/// Keeps contexts inside the process.
#[derive(Debug)]
struct Unpropagated(MemoryTracer);

impl Tracer for Unpropagated {
    fn new_span(&self, parent: &TraceContext, new_trace: u128) -> NewSpan {
        self.0.new_span(parent, new_trace)
    }

    fn record(&self, span: Span) {
        self.0.record(span);
    }

    fn propagates(&self) -> bool {
        false
    }
}

impl World {
    fn new() -> Self {
        let (broker, store) = (MemoryBroker::new(1), MemoryStore::default());
        Self { broker, store, clock: VirtualClock::start(), tracer: MemoryTracer::default(), propagates: true }
    }

    fn publish<E: Event>(&self, event: &E, traceparent: Option<&str>) {
        let trace = TraceContext { traceparent: traceparent.map(str::to_owned), tracestate: None };
        let outgoing = Outgoing {
            id: Uuid::now_v7(),
            source: "test",
            saga_id: Event::saga_id(event),
            causation_id: None,
            time: self.clock.now(),
            trace: &trace,
            null_compensation: false,
        };
        self.broker.append(seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap(), &outgoing));
    }

    /// Runs the participant until everything is handled and `enough` holds.
    async fn run(&self, participant: Participant<MemoryStore>, enough: impl Fn() -> bool) -> Metrics {
        let name = participant.name();
        let tracer: Arc<dyn Tracer> = match self.tracer.clone() {
            tracer if self.propagates => Arc::new(tracer),
            tracer => Arc::new(Unpropagated(tracer)),
        };
        let handle = Handle::traced(name, self.store.clone(), self.broker.producer(), self.clock, tracer);
        let metrics = handle.metrics().clone();
        let consumer = self.broker.subscribe(name, &participant.declaration().consumed_topics());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let runtime = Runtime::new(participant, handle, Options::default()).run(consumer, async {
            let _ = stopped.await;
        });
        let drive = async {
            for _ in 0..10_000 {
                self.clock.sleep(Duration::from_millis(20)).await;
                let summary = self.store.summary().await.unwrap();
                let quiet = summary.outbox_pending == 0 && summary.parked_sagas == 0;
                if quiet && self.broker.is_caught_up(name) && enough() {
                    break;
                }
            }
            drop(stop);
        };
        let (result, ()) = futures::join!(runtime, drive);
        result.unwrap();
        metrics
    }

    fn tree(&self) -> String {
        self.tracer.tree(TRACE)
    }

    fn span(&self, name: &str) -> Span {
        let spans = self.tracer.spans();
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name}: {spans:#?}")).clone()
    }
}

fn booked(mood: &str) -> Booked {
    Booked { id: Uuid::now_v7(), mood: mood.to_owned() }
}

fn attribute(span: &Span, name: &str) -> Option<Value> {
    span.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
}

#[tokio::test(start_paused = true)]
async fn an_events_handling_continues_the_trace_of_its_publisher() {
    let world = World::new();
    let trip = booked("fine");
    world.publish(&trip, Some(PARENT));
    world.run(seats(), || true).await;
    assert_eq!(world.tree(), "process trip.events: success\n  transaction take\n  send seat.events\n");
    let process = world.span("process trip.events");
    assert_eq!((process.kind, process.ids.parent_id), (Kind::Consumer, Some(255_u64.to_be_bytes())));
    assert_eq!(attribute(&process, "messaging.message.conversation_id"), Some(trip.id.to_string().into()));
    assert_eq!(attribute(&process, "saga.step"), Some("take".into()));
    let published = world.broker.records("seat.events").pop().unwrap();
    let sent = published.headers.iter().find(|h| h.is(header::TRACEPARENT)).unwrap().value.clone().unwrap();
    let context = TraceContext { traceparent: String::from_utf8(sent).ok(), tracestate: None };
    assert_eq!(context, TraceContext::of(&world.span("send seat.events").ids, None), "the span's own context is sent");
}

#[tokio::test(start_paused = true)]
async fn a_saga_without_a_context_uses_its_own_id_as_trace_id() {
    let world = World::new();
    let trip = booked("fine");
    world.publish(&trip, None);
    world.run(seats(), || true).await;
    let tree = world.tracer.tree(trip.id.as_u128());
    assert_eq!(tree, "process trip.events: success\n  transaction take\n  send seat.events\n");
}

#[tokio::test(start_paused = true)]
async fn an_unsampled_trace_is_passed_on_and_not_recorded() {
    let world = World::new();
    world.publish(&booked("fine"), Some(UNSAMPLED));
    world.run(seats(), || true).await;
    assert_eq!(world.tracer.spans(), []);
    let published = world.broker.records("seat.events").pop().unwrap();
    let sent = published.headers.iter().find(|h| h.is(header::TRACEPARENT)).unwrap();
    assert_eq!(sent.value.as_deref(), Some(UNSAMPLED.as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn events_that_share_a_transaction_keep_their_own_traces() {
    let world = World::new();
    let trips: Vec<Booked> = (0..3).map(|_| booked("fine")).collect();
    trips.iter().for_each(|trip| world.publish(trip, None));
    world.run(seats(), || true).await;
    for trip in &trips {
        let tree = world.tracer.tree(trip.id.as_u128());
        assert_eq!(tree, "process trip.events: success\n  transaction take\n  send seat.events\n");
    }
    assert_eq!(attribute(&world.span("transaction take"), "saga.batch.events"), Some(3.into()));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_redone_is_recorded_once() {
    for fault in [Fault::Deadlock, Fault::Commit, Fault::Begin] {
        let world = World::new();
        world.store.inject([fault]);
        world.publish(&booked("fine"), Some(PARENT));
        world.run(seats(), || true).await;
        let tree = "process trip.events: success\n  transaction take\n  send seat.events\n";
        assert_eq!(world.tree(), tree, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_published_by_a_sweep_has_its_place_in_the_trace() {
    let world = World::new();
    // The commit succeeds although its result is lost: a sweep finds the row in the table.
    world.store.inject([Fault::CommitAnswer]);
    world.publish(&booked("fine"), Some(PARENT));
    world.run(seats(), || true).await;
    assert_eq!(world.tree(), "process trip.events: duplicate\n  send seat.events\n  transaction take\n");
}

#[tokio::test(start_paused = true)]
async fn refusals_compensations_and_repetitions_are_recorded_as_such() {
    let world = World::new();
    let (full, taken) = (booked("full"), booked("fine"));
    world.publish(&full, Some(PARENT));
    world.publish(&taken, None);
    world.run(seats(), || true).await;
    world.publish(&full, Some(PARENT));
    world.publish(&Cancelled { id: full.id }, Some(PARENT));
    world.publish(&Cancelled { id: taken.id }, None);
    let metrics = world.run(seats(), || true).await;
    let refused = "process trip.events: refused\n  transaction take\n  send seat.events\n";
    let again = "process trip.events: repetition\n  transaction take\n";
    let null = "process trip.events: null_compensation\n  transaction free\n  send seat.events\n";
    assert_eq!(world.tree(), format!("{refused}{again}{null}"));
    assert!(world.tracer.tree(taken.id.as_u128()).contains("process trip.events: success\n  transaction free\n"));
    let compensation =
        world.tracer.spans().into_iter().find(|span| attribute(span, "saga.op") == Some("compensate".into()));
    assert_eq!(compensation.unwrap().error, None);
    let step = saga_core::runtime::StepOnly { step: "take" };
    assert_eq!(metrics.compensations.get_or_create(&step).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_effect_is_recorded_between_its_two_transactions_and_gets_its_own_context() {
    let world = World::new();
    world.publish(&booked("fine"), Some(PARENT));
    let participant = Participant::named("seat").step(Step::with_effect("pay", ask, pay));
    world.run(participant, || true).await;
    let tree = "process trip.events: success\n  transaction pay\n  effect pay\n  transaction pay\n  send seat.events\n";
    assert_eq!(world.tree(), tree);
    let effect = world.span("effect pay");
    let context_of_call: String = world.store.get("traceparent").await.unwrap();
    assert_eq!((effect.kind, Some(context_of_call)), (Kind::Client, TraceContext::of(&effect.ids, None).traceparent));
    let phases = world.tracer.spans().iter().filter_map(|span| attribute(span, "saga.phase")).collect::<Vec<_>>();
    assert_eq!(phases, ["start".into(), "finish".into()]);
}

async fn pay_and_keep_context(
    cx: &mut Cx<'_, MemoryStore>,
    trip: Booked,
    context_of_call: String,
) -> StepResult<Taken> {
    let inside = cx.trace(SagaId::from(trip.id));
    cx.tx().put("inside", &inside.trace_id());
    pay(cx, trip, context_of_call).await
}

#[tokio::test(start_paused = true)]
async fn without_propagation_a_process_has_its_own_trace_and_passes_no_context_on() {
    let world = World { propagates: false, ..World::new() };
    let trip = booked("fine");
    world.publish(&trip, Some(PARENT));
    world
        .run(
            Participant::named("seat").step(Step::with_effect("pay_and_keep_context", ask, pay_and_keep_context)),
            || true,
        )
        .await;
    let name = "pay_and_keep_context";
    let effect = format!("  transaction {name}\n  effect {name}\n  transaction {name}\n");
    let tree = world.tracer.tree(trip.id.as_u128());
    assert_eq!(tree, format!("process trip.events: success\n{effect}  send seat.events\n"));
    assert_eq!(world.tree(), "", "the trace of the publisher is not read");
    let inside: Option<String> = world.store.get("inside").await.unwrap();
    assert_eq!(inside, Some(format!("{:032x}", trip.id.as_u128())), "log lines name it");
    assert_eq!(world.store.get::<String>("traceparent").await.unwrap(), "");
    let published = world.broker.records("seat.events").pop().unwrap();
    assert!(!published.headers.iter().any(|h| h.is(header::TRACEPARENT) || h.is(header::TRACESTATE)));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_and_the_time_between_them_is_recorded() {
    let world = World::new();
    world.publish(&booked("slow"), Some(PARENT));
    let tracer = world.tracer.clone();
    let attempts = || tracer.spans().iter().filter(|span| span.kind == Kind::Consumer).count();
    let help = async {
        while attempts() < 1 {
            world.clock.sleep(Duration::from_millis(1)).await;
        }
        world.store.put("tries", &1).await;
    };
    futures::join!(world.run(seats(), || attempts() == 2), help);
    let tree = world.tree();
    assert!(tree.starts_with("process trip.events: parked\n"), "{tree}");
    assert!(tree.contains("\nparked take\n"), "{tree}");
    assert!(tree.ends_with("process trip.events: success\n  transaction take\n  send seat.events\n"), "{tree}");
    let first = world.span("process trip.events");
    assert_eq!(first.error.as_deref(), Some("not yet"));
    let last = world.tracer.spans().into_iter().rfind(|span| span.kind == Kind::Consumer).unwrap();
    assert_eq!(attribute(&last, "saga.attempt"), Some(2.into()));
    let parked = world.span("parked take");
    assert!(parked.end.duration_since(parked.start) >= jiff::SignedDuration::from_millis(50), "{parked:?}");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_recorded_and_keep_their_original_context() {
    let world = World::new();
    world.publish(&booked("broken"), Some(PARENT));
    world.run(seats(), || true).await;
    let tree = world.tree();
    assert!(tree.starts_with("process trip.events: blocked\n"), "{tree}");
    assert!(tree.contains("  send seat.dlq\n"), "{tree}");
    assert_eq!(world.span("process trip.events").error.as_deref(), Some("no such seat"));
    let dead = world.broker.records("seat.dlq").pop().unwrap();
    let parent = dead.headers.iter().find(|h| h.is(header::TRACEPARENT)).unwrap();
    assert_eq!(parent.value.as_deref(), Some(PARENT.as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_record_is_recorded_in_its_own_trace() {
    let world = World::new();
    let trip = booked("fine");
    world.publish(&trip, Some(PARENT));
    let mut record = world.broker.records("trip.events").pop().unwrap();
    record.value = Some(b"{".to_vec());
    let World { broker, .. } = World::new();
    let world = World { broker, ..world };
    let (topic, key) = ("trip.events".into(), record.key);
    world.broker.append(saga_core::record::OutRecord { topic, key, value: record.value, headers: record.headers });
    world.run(seats(), || true).await;
    assert_eq!(world.tree(), "process trip.events: dead_letter\n  send seat.dlq\n");
    assert_eq!(attribute(&world.span("process trip.events"), "error.type"), Some("undecodable".into()));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_continues_the_trace_of_what_armed_it() {
    let world = World::new();
    world.publish(&booked("fine"), Some(PARENT));
    let step = Step::new("take", take).deadline(Duration::from_secs(60), expire);
    let broker = world.broker.clone();
    let expired = || broker.records("seat.events").len() == 2;
    world.run(Participant::named("seat").step(step), expired).await;
    let tree = world.tree();
    assert!(tree.contains("\n  deadline take: fired\n    send seat.events\n"), "{tree}");
}

#[tokio::test(start_paused = true)]
async fn sagas_are_counted_from_their_beginning_to_their_end() {
    let world = World::new();
    let trip = booked("full");
    world.publish(&trip, None);
    let metrics = world.run(seats(), || true).await;
    assert_eq!(metrics.started.get(), 1);
    let summary = world.store.summary().await.unwrap();
    assert_eq!(summary.unfinished_sagas, 1);
    world.clock.sleep(Duration::from_secs(7)).await;
    world.publish(&Cancelled { id: trip.id }, None);
    let metrics = world.run(seats(), || true).await;
    let label = saga_core::runtime::OutcomeLabel { outcome: "compensated" };
    assert_eq!((metrics.started.get(), metrics.finished.get_or_create(&label).get()), (0, 1));
    assert_eq!(world.store.summary().await.unwrap().unfinished_sagas, 0);
}
