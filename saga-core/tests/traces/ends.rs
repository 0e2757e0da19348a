//! What is recorded of dead letters and of whole sagas.

use super::*;

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
