//! Transactions that fail.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_fault_at_any_point_of_a_transaction_only_delays_its_events() {
    for fault in [Fault::Begin, Fault::Commit, Fault::CommitAnswer, Fault::Deadlock] {
        local(async || {
            let world = World::new(3);
            let member = world.start(seats());
            (0..20).for_each(|_| world.publish(&booked("fine")));
            world.store.inject([fault, fault]);
            world.caught_up().await;
            assert_eq!(world.store.get::<u32>("taken").await, Some(20), "{fault:?}");
            assert_eq!(
                world.types("seat.events"),
                vec!["seat.taken"; 20],
                "{fault:?}: each is published, and none twice"
            );
            member.stop().await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_does_not_fail_its_batch() {
    for mood in ["fail", "panic"] {
        local(async || {
            let world = World::new(1);
            let mut bad = 0;
            for i in 0..30 {
                let is_bad = i % 10 == 3;
                bad += usize::from(is_bad);
                world.publish(&booked(if is_bad { mood } else { "fine" }));
            }
            let member = world.start(seats());
            world.caught_up().await;
            assert_eq!(world.types("seat.events").len(), 30 - bad);
            assert_eq!(world.broker.records("seat.dlq").len(), bad);
            assert_eq!(world.store.summary().await.unwrap().blocked_sagas, bad as u64);
            member.stop().await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_join_and_leave_lose_nothing_and_repeat_nothing() {
    local(async || {
        let world = World::new(6);
        let first = world.start(seats());
        let mut published = 0;
        let mut members = vec![first];
        for round in 0..6 {
            for _ in 0..50 {
                world.publish(&booked("fine"));
                published += 1;
            }
            match round {
                0 | 1 | 3 => members.push(world.start(seats())),
                2 => members.remove(0).stop().await,
                _ => members.remove(0).die().await,
            }
        }
        world.caught_up().await;
        assert_eq!(world.store.get::<u32>("taken").await, Some(published));
        let ids: std::collections::HashSet<_> =
            world.broker.records("seat.events").into_iter().map(|r| r.key).collect();
        assert_eq!(ids.len(), published as usize);
        for member in members {
            member.stop().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_database_outage_during_an_assignment_ends_in_readiness_without_an_event() {
    local(async || {
        let world = World::new(1);
        world.store.inject([Fault::Read; 5]);
        let member = world.start(seats());
        world.eventually("it waits", async || !member.health.waiting_for().is_empty()).await;
        world.eventually("it is ready", async || member.health.waiting_for().is_empty()).await;
        member.stop().await;
    })
    .await;
}
