//! Whose trace a span is in: contexts that come in, are handed on, or are missing.

use super::*;

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

async fn pay_and_look_around(cx: &mut Cx<'_, MemoryStore>, trip: Booked, told: String) -> StepResult<Taken> {
    let inside = cx.trace(SagaId::from(trip.id));
    cx.tx().put("inside", &inside.trace_id());
    pay(cx, trip, told).await
}

#[tokio::test(start_paused = true)]
async fn without_propagation_a_process_has_its_own_trace_and_passes_no_context_on() {
    let world = World { propagates: false, ..World::new() };
    let trip = booked("fine");
    world.publish(&trip, Some(PARENT));
    world
        .run(
            Participant::named("seat").step(Step::with_effect("pay_and_look_around", ask, pay_and_look_around)),
            || true,
        )
        .await;
    let name = "pay_and_look_around";
    let effect = format!("  transaction {name}\n  effect {name}\n  transaction {name}\n");
    let tree = world.tracer.tree(trip.id.as_u128());
    assert_eq!(tree, format!("process trip.events: success\n{effect}  send seat.events\n"));
    assert_eq!(world.tree(), "", "the trace of the publisher is not read");
    let inside: Option<String> = world.store.get("inside").await.unwrap();
    assert_eq!(inside, Some(format!("{:032x}", trip.id.as_u128())), "log lines name it");
    assert_eq!(world.store.get::<String>("told").await.unwrap(), "");
    let published = world.broker.records("seat.events").pop().unwrap();
    assert!(!published.headers.iter().any(|h| h.is(header::TRACEPARENT) || h.is(header::TRACESTATE)));
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
