//! What is recorded of a step: its transactions, effects, attempts and outcomes.

use super::*;

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
async fn each_of_several_events_has_its_own_place_in_the_trace() {
    async fn take_and_free(_: &mut Cx<'_, MemoryStore>, trip: Booked) -> StepResult<(Taken, Freed)> {
        Ok(Outcome::Success((Taken { id: trip.id }, Freed { id: trip.id })))
    }
    let world = World::new();
    world.publish(&booked("fine"), Some(PARENT));
    world.run(Participant::named("seat").step(Step::new("take", take_and_free)), || true).await;
    let tree = "process trip.events: success\n  transaction take\n  send seat.events\n  send seat.events\n";
    assert_eq!(world.tree(), tree);
    let ids = world.tracer.spans().into_iter().filter(|span| span.kind == Kind::Producer);
    let ids: std::collections::BTreeSet<_> = ids.map(|span| span.ids.span_id).collect();
    assert_eq!(ids.len(), 2);
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
    // Nobody knows that this commits: the row is found in the table.
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
    let undone = world.tracer.spans().into_iter().find(|span| attribute(span, "saga.op") == Some("compensate".into()));
    assert_eq!(undone.unwrap().error, None);
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
    let told: String = world.store.get("told").await.unwrap();
    assert_eq!((effect.kind, Some(told)), (Kind::Client, TraceContext::of(&effect.ids, None).traceparent));
    let phases = world.tracer.spans().iter().filter_map(|span| attribute(span, "saga.phase")).collect::<Vec<_>>();
    assert_eq!(phases, ["start".into(), "finish".into()]);
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

/// Looks three times.
async fn look(cx: &mut Cx<'_, MemoryStore>, trip: Booked) -> StepResult<Taken> {
    match cx.round() {
        2 => Ok(Outcome::Success(Taken { id: trip.id })),
        _ => Ok(Outcome::Again { after: Duration::from_secs(1) }),
    }
}

#[tokio::test(start_paused = true)]
async fn every_round_of_a_step_is_recorded_and_counted() {
    let world = World::new();
    world.publish(&booked("fine"), Some(PARENT));
    let participant = Participant::named("seat").step(Step::new("look", look).again(Rounds::at_most(3)));
    let metrics = world.run(participant, || world.broker.records("seat.events").len() == 1).await;
    let round = "process trip.events: again\n  transaction look\n";
    let last = "process trip.events: success\n  transaction look\n  send seat.events\n";
    assert_eq!(world.tree(), format!("{round}{round}{last}"));
    let spans = world.tracer.spans().into_iter().filter(|span| span.kind == Kind::Consumer);
    let rounds: Vec<_> = spans.map(|span| attribute(&span, "saga.round")).collect();
    assert_eq!(rounds, [None, Some(1.into()), Some(2.into())]);
    let step = saga_core::runtime::StepOnly { step: "look" };
    assert_eq!(metrics.rounds.get_or_create(&step).get(), 2);
    let again = saga_core::runtime::HandledLabel { step: "look", op: "action", outcome: "again" };
    assert_eq!(metrics.handled.get_or_create(&again).get(), 2);
}
