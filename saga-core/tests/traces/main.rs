//! The spans that the runtime records, in memory and virtual time: one trace per saga, each span once, whatever went wrong meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod contexts;
mod ends;
mod steps;

#[path = "../common/mod.rs"]
mod common;

use std::{sync::Arc, time::Duration};

use common::{events::events, trip::Expired};
use saga_core::{
    Event, Outcome, Participant, Rounds, SagaId, Step, StepError, StepResult,
    clock::Clock,
    envelope::{Outgoing, header, seal},
    event::EventType,
    handler::{Call, Cx},
    runtime::{Handle, Metrics, Options, Runtime},
    store::Store,
    testing::{Fault, MemoryBroker, MemoryStore, MemoryTracer, VirtualClock},
    trace::{Kind, NewSpan, Span, TraceContext, Tracer, Value},
};
use uuid::Uuid;

events! {
    Booked = "trip.booked" on "trip.events" { mood: String }
    Cancelled = "trip.cancelled" on "trip.events" {}
    Taken = "seat.taken" on "seat.events" {}
    Denied = "seat.denied" on "seat.events" {}
    Freed = "seat.freed" on "seat.events" {}
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

async fn pay(cx: &mut Cx<'_, MemoryStore>, trip: Booked, told: String) -> StepResult<Taken> {
    cx.tx().put("told", &told);
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
