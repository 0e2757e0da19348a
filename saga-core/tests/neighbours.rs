//! One saga with a locked row, a repeated event, a broken table or a failing gateway, and how it affects the others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{
    World,
    trip::{Booked, Cancelled, Freed, Taken},
};
use saga_core::{
    Never, Outcome, Participant, RetryPolicy, Step, StepError, StepResult,
    clock::Clock,
    envelope::header,
    handler::{Call, Cx},
    record::Header,
    runtime::StepLabel,
    step::{BreakerPolicy, EffectLimits},
    store::{Store, StoreError},
    testing::{Fault, MemoryStore},
};

async fn take(_: &mut Cx<'_, MemoryStore>, trip: Booked) -> StepResult<Taken, Never> {
    Ok(Outcome::Success(Taken { id: trip.id }))
}

async fn free(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
    Ok(why.into())
}

fn seats() -> Participant<MemoryStore> {
    Participant::named("seat").step(Step::new("take", take).undone_by(free))
}

const TAKE: StepLabel = StepLabel { step: "take", op: "action" };

#[tokio::test(start_paused = true)]
async fn copies_of_one_event_are_settled_together() {
    settles_copies_together(true).await;
}

#[tokio::test(start_paused = true)]
async fn copies_of_an_event_without_an_id_are_settled_together() {
    settles_copies_together(false).await;
}

async fn settles_copies_together(named: bool) {
    World::with(seats(), async |world| {
        let (mut hot, others) = (world.record(&Booked::anew()), (0..50).map(|_| Booked::anew()).collect::<Vec<_>>());
        hot.headers.retain(|header| named || !header.is(header::ID));
        for _ in 0..20 {
            (0..1000).for_each(|_| world.broker.append(hot.clone()));
            others.iter().for_each(|other| world.publish(other));
        }
        world.eventually("all is read", async || world.broker.is_caught_up("seat")).await;
        assert_eq!(world.types("seat.events").len(), 51);
        let copies = world.metrics.duplicates.get_or_create(&TAKE).get();
        // Without an id, each copy in a transaction of its own is a new event of a step that has run, and counts as a
        // repetition.
        let repetitions = world.metrics.repetitions.get_or_create(&TAKE).get() - 19 * 50;
        assert_eq!((copies + repetitions, named && repetitions > 0), (19_999, false));
        let mut text = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        world.metrics.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find(|line| line.starts_with("saga_batch_events_count")).unwrap();
        let transactions: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(transactions < 200, "{transactions} transactions for 20,000 copies");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_of_two_types_are_two_events_also_under_one_id_and_with_the_same_data() {
    World::with(seats(), async |world| {
        let trip = Booked::anew();
        let (mut booked, mut cancelled) = (world.record(&trip), world.record(&Cancelled { id: trip.id }));
        for record in [&mut booked, &mut cancelled] {
            record.headers.retain(|header| !header.is(header::ID));
            record.headers.push(Header::text(header::ID, trip.id.to_string()));
        }
        [booked, cancelled].into_iter().for_each(|record| world.broker.append(record));
        world.eventually("both", async || world.types("seat.events") == ["seat.taken", "seat.freed"]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_with_more_events_than_a_transaction_takes_is_handled() {
    World::with(seats(), async |world| {
        let hot = Booked::anew();
        // Each with its own id.
        (0..1000).for_each(|_| world.publish(&hot));
        let other = Booked::anew();
        world.publish(&other);
        world.eventually("all is read", async || world.broker.is_caught_up("seat")).await;
        assert_eq!(world.types("seat.events").len(), 2);
        assert_eq!(world.metrics.repetitions.get_or_create(&TAKE).get(), 999);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_locked_row_uses_up_no_attempt_and_dead_letters_nothing() {
    World::with(seats(), async |world| {
        world.clock.sleep(Duration::from_secs(1)).await;
        // More often than the policy has attempts.
        world.store.inject([Fault::Lock; 60]);
        (0..4).for_each(|_| world.publish(&Booked::anew()));
        world.eventually("all are handled", async || world.types("seat.events").len() == 4).await;
        assert_eq!(world.broker.records("seat.dlq").len(), 0);
        assert_eq!(world.metrics.retries.get_or_create(&TAKE).get(), 0);
        world.eventually("none is parked", async || world.store.summary().await.unwrap().parked_sagas == 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_database_refusal_of_many_sagas_is_not_attributed_to_their_events() {
    let broken = Arc::new(AtomicBool::new(true));
    let seen = broken.clone();
    let step = Step::new("take", async move |_: &mut Cx<'_, MemoryStore>, trip: Booked| -> StepResult<Taken, Never> {
        if seen.load(SeqCst) {
            return Err(StoreError::Rejected("null in column \"row\" (SQLSTATE 23502)".into()).into());
        }
        Ok(Outcome::Success(Taken { id: trip.id }))
    });
    World::with(Participant::named("seat").step(step), async |world| {
        for _ in 0..10 {
            world.publish(&Booked::anew());
            world.clock.sleep(Duration::from_secs(1)).await;
        }
        world.clock.sleep(Duration::from_secs(30)).await;
        assert_eq!(world.broker.records("seat.dlq").len(), 3, "then it is no longer taken for the event's fault");
        broken.store(false, SeqCst);
        world.eventually("the others are handled", async || world.types("seat.events").len() == 7).await;
        assert_eq!(world.broker.records("seat.dlq").len(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn many_events_refused_by_one_constraint_stop_no_other_event() {
    let bad = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let refused = bad.clone();
    let step = Step::new("take", async move |_: &mut Cx<'_, MemoryStore>, trip: Booked| -> StepResult<Taken, Never> {
        if refused.lock().unwrap().contains(&trip.id) {
            return Err(StoreError::Rejected("check \"seats\" (SQLSTATE 23514)".into()).into());
        }
        Ok(Outcome::Success(Taken { id: trip.id }))
    })
    .undone_by(free);
    World::with(Participant::named("seat").step(step), async |world| {
        for _ in 0..20 {
            let trip = Booked::anew();
            bad.lock().unwrap().insert(trip.id);
            world.publish(&trip);
        }
        world.clock.sleep(Duration::from_secs(1)).await;
        let other = Booked::anew();
        world.publish(&Cancelled { id: other.id });
        world.clock.sleep(Duration::from_millis(500)).await;
        assert_eq!(world.types("seat.events"), ["seat.freed"], "what else the participant does goes on");
        (0..20).for_each(|_| world.publish(&Booked::anew()));
        world.eventually("the good ones are handled", async || world.types("seat.events").len() == 21).await;
    })
    .await;
}

#[derive(Default)]
struct Gateway {
    down: AtomicBool,
    charges: AtomicUsize,
    refunds: AtomicUsize,
}

fn gated(gateway: &Arc<Gateway>) -> Participant<MemoryStore> {
    let (charged, refunded) = (gateway.clone(), gateway.clone());
    let answer = |gateway: &Gateway, calls: &AtomicUsize| {
        calls.fetch_add(1, SeqCst);
        if gateway.down.load(SeqCst) { Err(StepError::infrastructure("no answer")) } else { Ok(()) }
    };
    let step = Step::with_effect(
        "take",
        async move |_: &Call, _: &Booked| answer(&charged, &charged.charges),
        async |_: &mut Cx<'_, MemoryStore>, trip: Booked, ()| -> StepResult<Taken, Never> {
            Ok(Outcome::Success(Taken { id: trip.id }))
        },
    )
    .undone_with_effect(async move |_: &Call, _: &Cancelled| answer(&refunded, &refunded.refunds), free)
    .retry(RetryPolicy::fixed(Duration::from_secs(5), 100))
    .effect_limits(EffectLimits {
        breaker: BreakerPolicy { failure_share: 0.5, window: 4, open_for: Duration::from_secs(60) },
        ..EffectLimits::default()
    });
    Participant::named("seat").step(step)
}

#[tokio::test(start_paused = true)]
async fn a_saga_without_a_call_is_compensated_without_the_gateway() {
    let gateway = Arc::new(Gateway::default());
    gateway.down.store(true, SeqCst);
    World::with(gated(&gateway), async |world| {
        (0..4).for_each(|_| world.publish(&Booked::anew()));
        world.eventually("the breaker is open", async || gateway.charges.load(SeqCst) == 4).await;
        world.clock.sleep(Duration::from_secs(1)).await;
        let (trip, calls) = (Booked::anew(), gateway.charges.load(SeqCst));
        world.publish(&trip);
        world.clock.sleep(Duration::from_secs(1)).await;
        world.publish(&Cancelled { id: trip.id });
        world.clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(world.types("seat.events"), ["seat.freed"]);
        assert_eq!(world.headers("seat.events", header::NULL_COMPENSATION), ["true"]);
        assert_eq!((gateway.charges.load(SeqCst), gateway.refunds.load(SeqCst)), (calls, 0));
        assert_eq!(world.store.summary().await.unwrap().parked_sagas, 4, "only the others are parked");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_compensation_does_not_wait_behind_its_parked_action() {
    let gateway = Arc::new(Gateway::default());
    World::with(gated(&gateway), async |world| {
        gateway.down.store(true, SeqCst);
        let trip = Booked::anew();
        world.publish(&trip);
        world.eventually("the charge is parked", async || world.store.summary().await.unwrap().parked_sagas == 1).await;
        gateway.down.store(false, SeqCst);
        world.publish(&Cancelled { id: trip.id });
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.types("seat.events"), ["seat.freed"], "before the charge is tried again after 5 s");
        assert_eq!(gateway.refunds.load(SeqCst), 1, "the call may have taken effect");
        world.clock.sleep(Duration::from_secs(20)).await;
        assert_eq!(gateway.charges.load(SeqCst), 1, "the action stays late");
        assert_eq!(world.store.summary().await.unwrap().parked_sagas, 0);
        assert_eq!(world.metrics.late.get_or_create(&TAKE).get(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_fails_keeps_the_position_of_its_action() {
    let gateway = Arc::new(Gateway::default());
    World::with(gated(&gateway), async |world| {
        gateway.down.store(true, SeqCst);
        let trip = Booked::anew();
        world.publish(&trip);
        world.eventually("the charge is parked", async || world.store.summary().await.unwrap().parked_sagas == 1).await;
        world.publish(&Cancelled { id: trip.id });
        world.eventually("the refund fails", async || gateway.refunds.load(SeqCst) == 1).await;
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.store.summary().await.unwrap().parked_sagas, 1);
        gateway.down.store(false, SeqCst);
        world.eventually("it is refunded", async || world.types("seat.events") == ["seat.freed"]).await;
        assert_eq!((gateway.charges.load(SeqCst), gateway.refunds.load(SeqCst)), (1, 2));
    })
    .await;
}
