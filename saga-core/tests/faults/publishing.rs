//! A broker that does not acknowledge.

use super::*;

#[tokio::test(start_paused = true)]
async fn events_that_the_broker_does_not_acknowledge_are_published_later_in_their_order() {
    local(async || {
        let world = World::new(1);
        let member = world.start(seats());
        world.broker.refuse(7);
        let trips: Vec<Booked> = (0..10).map(|_| booked("fine")).collect();
        trips.iter().for_each(|trip| world.publish(trip));
        world.caught_up().await;
        trips.iter().for_each(|trip| world.publish(&Cancelled { id: trip.id }));
        world.caught_up().await;
        for trip in &trips {
            let key = trip.id.to_string().into_bytes();
            let mut seen: Vec<Vec<u8>> = Vec::new();
            for record in world.broker.records("seat.events").into_iter().filter(|r| r.key.as_ref() == Some(&key)) {
                let of_type = record.headers.iter().find(|h| h.is(header::TYPE)).unwrap().value.clone().unwrap();
                if !seen.contains(&of_type) {
                    seen.push(of_type);
                }
            }
            assert_eq!(seen, [b"seat.taken".to_vec(), b"seat.freed".to_vec()]);
        }
        member.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_process_leaves_its_outbox_to_the_next_one() {
    local(async || {
        let world = World::new(2);
        world.broker.refuse(usize::MAX);
        let member = world.start(seats());
        (0..5).for_each(|_| world.publish(&booked("fine")));
        world.eventually("it is committed", async || world.store.get::<u32>("taken").await == Some(5)).await;
        member.die().await;
        world.broker.refuse(0);
        let next = world.start(seats());
        world.caught_up().await;
        assert_eq!(world.types("seat.events"), vec!["seat.taken"; 5]);
        assert_eq!(world.store.get::<u32>("taken").await, Some(5));
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_outbox_full_of_rows_in_flight_hides_no_unpublished_row() {
    local(async || {
        let world = World::new(1);
        let broker = Mute::default();
        let handle = Handle::new("seat", world.store.clone(), broker.clone(), world.clock);
        let outbox = handle.outbox();
        let runtime = Runtime::new(seats(), handle, Options::default());
        let consumer = world.broker.subscribe("seat", &["trip.events".to_owned()]);
        let task = tokio::task::spawn_local(runtime.run(consumer, std::future::pending()));
        let commit = async |row: OutboxRow| {
            let (tx, _) = world.store.begin(&[], Duration::from_secs(1)).await.unwrap();
            world.store.commit(tx, Changes { outbox: vec![row], ..Changes::default() }).await.unwrap();
        };
        for _ in 0..600 {
            let row = outbox.row(&Taken { id: Uuid::now_v7() }, &TraceContext::default()).unwrap();
            commit(row.clone()).await;
            outbox.committed(vec![row]);
        }
        // Committed by a process that died before it could publish.
        let lost = outbox.row(&Taken { id: Uuid::now_v7() }, &TraceContext::default()).unwrap();
        commit(lost.clone()).await;
        world.eventually("it is published", async || broker.published(&lost)).await;
        task.abort();
    })
    .await;
}
