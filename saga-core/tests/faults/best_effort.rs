//! A compensation at best effort that fails for good: its saga goes on, marked, and nothing is lost or claimed, wherever it crashes.

use std::collections::BTreeSet;

use saga_core::{
    RetryPolicy,
    dead_letter::header::{ATTEMPTS, REASON},
    runtime::{StepLabel, StepOnly},
    store::FailedCompensation,
};

use super::*;

events! {
    Moved = "seat.moved" on "trip.events" {}
    Noted = "seat.noted" on "seat.events" {}
}

const TAKE: StepOnly = StepOnly { step: "take" };
const FREE: StepLabel = StepLabel { step: "take", op: "compensate" };

/// How a compensation fails, and the fault that hits the transaction after its last attempt.
#[derive(Clone, Copy)]
struct Failing {
    error: fn() -> StepError,
    attempts: usize,
    fault: Option<Fault>,
}

const PERMANENT: Failing =
    Failing { error: || StepError::permanent("the seat is bolted down"), attempts: 1, fault: None };
const USED_UP: Failing = Failing { error: || StepError::transient("no answer"), attempts: 3, fault: None };

/// Counts an attempt of a compensation and fails it. Before it fails for the last time, the next fault is injected.
struct Attempts {
    failing: Failing,
    made: AtomicUsize,
    store: MemoryStore,
}

impl Attempts {
    fn fail(&self) -> StepError {
        if self.made.fetch_add(1, Ordering::SeqCst) + 1 == self.failing.attempts {
            self.store.inject(self.failing.fault);
        }
        (self.failing.error)()
    }
}

async fn note(_: &mut Cx<'_, MemoryStore>, moved: Moved) -> StepResult<Noted> {
    Ok(Outcome::Success(Noted { id: moved.id }))
}

/// A participant whose compensation fails, in its handler or in its effect.
fn failing(world: &World, failing: Failing, in_effect: bool) -> Participant<MemoryStore> {
    let attempts = Arc::new(Attempts { failing, made: AtomicUsize::new(0), store: world.store.clone() });
    let fails = attempts.clone();
    let retry = RetryPolicy::fixed(Duration::from_secs(1), 3);
    let step = if in_effect {
        let step = Step::with_effect(
            "take",
            async |_: &Call, _: &Booked| Ok(()),
            async |cx: &mut Cx<'_, MemoryStore>, trip: Booked, ()| {
                take(cx, vec![trip]).await.map(|mut made| made.remove(0))
            },
        );
        step.undone_with_effect(async move |_: &Call, _: &Cancelled| Err(fails.fail()), free).best_effort().retry(retry)
    } else {
        let step = Step::new("take", take).undone_by(
            async move |_: &mut Cx<'_, MemoryStore>, _: Cancelled| -> Result<Freed, StepError> { Err(fails.fail()) },
        );
        return Participant::named("seat").step(step.best_effort().retry(retry)).step(Step::new("note", note));
    };
    Participant::named("seat").step(step).step(Step::new("note", note))
}

impl World {
    fn header(&self, topic: &str, name: &str) -> Vec<String> {
        let of = |record: &saga_core::record::Record| {
            let header = record.headers.iter().find(|h| h.is(name)).and_then(|h| h.value.clone());
            String::from_utf8(header.unwrap_or_default()).unwrap()
        };
        self.broker.records(topic).iter().map(of).collect()
    }

    /// The saga has gone on: its event is published once, marked as failed, and its row is there.
    async fn went_on(&self, id: Uuid, why: &str, attempts: u32) -> FailedCompensation {
        let ids: BTreeSet<String> = self.header("seat.events", header::ID).into_iter().collect();
        assert_eq!(ids.len(), 2, "{:?}", self.types("seat.events"));
        let kinds: Vec<_> = self
            .types("seat.events")
            .into_iter()
            .zip(self.header("seat.events", header::COMPENSATION_FAILED))
            .collect();
        let (taken, freed) = (("seat.taken".to_owned(), String::new()), ("seat.freed".to_owned(), "true".to_owned()));
        assert_eq!(kinds[0], taken);
        assert!(kinds[1..].iter().all(|kind| *kind == freed), "{kinds:?}");
        assert_eq!(self.header("seat.events", header::PARTLY_COMPENSATED)[1], "true");
        assert_eq!(self.header("seat.events", header::NULL_COMPENSATION)[1], "", "there was something to compensate");
        assert_eq!(self.store.mark(id.into(), "take", Op::Compensate).await, Some(Mark::Failed));
        let summary = self.store.summary().await.unwrap();
        assert_eq!((summary.failed_compensations, summary.blocked_sagas, summary.parked_sagas), (1, 0, 0));
        assert_eq!(self.store.get::<u32>("freed").await, None);
        let failed = self.store.failed_compensations().await.remove(0);
        assert_eq!((failed.saga_id, failed.step, failed.reason.as_str()), (id.into(), "take", why));
        assert_eq!(failed.attempts, attempts);
        failed
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_goes_on_without_a_compensation_that_fails_for_good() {
    local(async || {
        for (how, in_effect) in [(PERMANENT, false), (PERMANENT, true), (USED_UP, false), (USED_UP, true)] {
            let world = World::new(3);
            let member = world.start(failing(&world, how, in_effect));
            let trip = booked("fine");
            let cancelled = record(&Cancelled { id: trip.id }, Uuid::now_v7(), world.clock);
            world.publish(&trip);
            world.caught_up().await;
            world.broker.append(cancelled.clone());
            world.caught_up().await;
            let (why, reason, attempts) = match how.attempts {
                1 => ("the seat is bolted down", "permanent", 1),
                _ => ("no answer", "retries_exhausted", 3),
            };
            let failed = world.went_on(trip.id, why, attempts).await;
            assert_eq!((&failed.record.value, failed.record.topic.as_ref()), (&cancelled.value, "trip.events"));
            assert_eq!(world.header("seat.dlq", REASON), [reason]);
            assert_eq!(world.header("seat.dlq", ATTEMPTS), [attempts.to_string()]);
            assert_eq!(member.metrics.compensations_failed_for_good.get_or_create(&TAKE).get(), 1);
            assert_eq!(member.metrics.compensations_dead_lettered.get_or_create(&TAKE).get(), 0, "nothing is blocked");
            assert_eq!(member.metrics.compensations.get_or_create(&TAKE).get(), 0, "nothing was compensated");
            // The saga is not blocked, a redelivery is a duplicate, and its action stays closed.
            world.publish(&Moved { id: trip.id });
            world.broker.append(cancelled);
            world.publish(&trip);
            world.caught_up().await;
            assert_eq!(world.types("seat.events"), ["seat.taken", "seat.freed", "seat.noted"]);
            assert_eq!(member.metrics.duplicates.get_or_create(&FREE).get(), 1);
            member.stop().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_saga_is_not_touched_and_a_null_compensation_has_nothing_that_could_fail() {
    local(async || {
        let world = World::new(1);
        let _member = world.start(failing(&world, PERMANENT, false));
        let (trip, other) = (booked("fine"), booked("fine"));
        world.publish(&trip);
        world.publish(&other);
        world.caught_up().await;
        world.publish(&Cancelled { id: Uuid::now_v7() });
        world.caught_up().await;
        world.publish(&Cancelled { id: trip.id });
        world.caught_up().await;
        assert_eq!(world.types("seat.events"), ["seat.taken", "seat.taken", "seat.freed", "seat.freed"]);
        assert_eq!(world.header("seat.events", header::COMPENSATION_FAILED)[2..], ["", "true"]);
        assert_eq!(world.header("seat.events", header::NULL_COMPENSATION)[2..], ["true", ""]);
        assert_eq!(world.store.mark(other.id.into(), "take", Op::Action).await, Some(Mark::Done));
        assert_eq!(world.store.mark(other.id.into(), "take", Op::Compensate).await, None);
        assert_eq!(world.store.failed_compensations().await.len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_line_of_the_last_transaction_loses_nothing_and_publishes_nothing_under_another_id() {
    local(async || {
        let faults = [Fault::Begin, Fault::Deadlock, Fault::Lock, Fault::Commit, Fault::CommitAnswer];
        let cases = faults.into_iter().flat_map(|fault| [PERMANENT, USED_UP].map(|how| (fault, how)));
        for ((fault, how), in_effect) in cases.flat_map(|case| [(case, false), (case, true)]) {
            let world = World::new(3);
            let member = world.start(failing(&world, Failing { fault: Some(fault), ..how }, in_effect));
            let trip = booked("fine");
            world.publish(&trip);
            world.caught_up().await;
            world.publish(&Cancelled { id: trip.id });
            world.caught_up().await;
            let why = (how.error)().to_string();
            world.went_on(trip.id, &why, u32::try_from(how.attempts).unwrap()).await;
            assert_eq!(world.broker.records("seat.dlq").len(), 1, "{fault:?}");
            member.die().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_before_or_after_its_dead_letter_is_acknowledged_is_continued_by_the_next_one() {
    local(async || {
        for (acknowledged, in_effect) in [(false, false), (false, true), (true, false), (true, true)] {
            let world = World::new(3);
            let member = world.start(failing(&world, PERMANENT, in_effect));
            let trip = booked("fine");
            world.publish(&trip);
            world.caught_up().await;
            if acknowledged {
                // The compensation begins once, and with an effect twice. Then the database is away.
                let away = [Fault::Commit; 100];
                if !in_effect {
                    world.store.inject(away);
                }
                world.publish(&Cancelled { id: trip.id });
                world.eventually("it is dead-lettered", async || world.broker.records("seat.dlq").len() == 1).await;
            } else {
                world.broker.refuse(usize::MAX);
                world.publish(&Cancelled { id: trip.id });
                world.clock.sleep(Duration::from_secs(5)).await;
            }
            member.die().await;
            world.broker.refuse(0);
            world.store.clear_faults();
            let _member = world.start(failing(&world, PERMANENT, in_effect));
            world.caught_up().await;
            world.went_on(trip.id, "the seat is bolted down", 1).await;
            let letters = world.broker.records("seat.dlq").len();
            assert!((1..=2).contains(&letters), "{letters}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_is_blocked_when_even_the_event_of_its_compensation_cannot_be_made() {
    events! {
        Lost = "trip.lost" on "trip.events" {}
        Unspeakable = "seat.unspeakable" on "seat.events" {}
    }
    impl From<Lost> for Unspeakable {
        fn from(_: Lost) -> Self {
            panic!("a defect of a type")
        }
    }
    local(async || {
        let world = World::new(1);
        let fail = async |_: &mut Cx<'_, MemoryStore>, _: Lost| -> Result<Unspeakable, StepError> {
            Err(StepError::permanent("no"))
        };
        let _member =
            world.start(Participant::named("seat").step(Step::new("take", take).undone_by(fail).best_effort()));
        let trip = booked("fine");
        world.publish(&trip);
        world.caught_up().await;
        world.publish(&Lost { id: trip.id });
        let blocked = async || world.store.summary().await.unwrap().blocked_sagas == 1;
        world.eventually("its saga waits for an operator", blocked).await;
        assert_eq!(world.types("seat.events"), ["seat.taken"]);
        assert_eq!(world.store.failed_compensations().await, []);
        assert_eq!(world.broker.records("seat.dlq").len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_waits_for_several_events_may_fail_for_good_too() {
    events! {
        Refused = "trip.refused" on "trip.events" {}
        Released = "hotel.released" on "hotel.events" {}
    }
    impl From<(Refused, Released)> for Freed {
        fn from((trip, _): (Refused, Released)) -> Self {
            Self { id: trip.id }
        }
    }
    local(async || {
        for (trip_first, fault) in [(true, None), (false, None), (true, Some(Fault::CommitAnswer))] {
            let world = World::new(3);
            let store = world.store.clone();
            let fail = async move |_: &mut Cx<'_, MemoryStore>, _: (Refused, Released)| -> Result<Freed, StepError> {
                store.inject(fault);
                Err(StepError::permanent("the seat is bolted down"))
            };
            let member =
                world.start(Participant::named("seat").step(Step::new("take", take).undone_by(fail).best_effort()));
            let trip = booked("fine");
            world.publish(&trip);
            world.caught_up().await;
            let mut parts = [Refused { id: trip.id }].map(|event| record(&event, Uuid::now_v7(), world.clock)).to_vec();
            parts.insert(usize::from(trip_first), record(&Released { id: trip.id }, Uuid::now_v7(), world.clock));
            for part in &parts {
                assert_eq!(world.types("seat.events"), ["seat.taken"]);
                world.broker.append(part.clone());
                world.caught_up().await;
            }
            let failed = world.went_on(trip.id, "the seat is bolted down", 1).await;
            assert_eq!(failed.record.value, parts[1].value);
            for part in parts {
                world.broker.append(part);
            }
            world.caught_up().await;
            assert_eq!(member.metrics.duplicates.get_or_create(&FREE).get(), if fault.is_some() { 3 } else { 2 });
            member.die().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_action_that_is_parked_leaves_the_queue_with_the_compensation_that_fails_in_its_place() {
    local(async || {
        let world = World::new(3);
        let ask = async |_: &Call, _: &Booked| -> Result<(), StepError> { Err(StepError::transient("no answer")) };
        let record_it = async |cx: &mut Cx<'_, MemoryStore>, trip: Booked, ()| {
            take(cx, vec![trip]).await.map(|mut made| made.remove(0))
        };
        let give_back = async |_: &Call, _: &Cancelled| -> Result<(), StepError> { Err(StepError::permanent("gone")) };
        let step = Step::with_effect("take", ask, record_it).undone_with_effect(give_back, free).best_effort();
        let step = step.retry(RetryPolicy::fixed(Duration::from_secs(3600), 5));
        let _member = world.start(Participant::named("seat").step(step).step(Step::new("note", note)));
        let trip = booked("fine");
        world.publish(&trip);
        let parked = async || world.store.summary().await.unwrap().parked_sagas == 1;
        world.eventually("the action is parked", parked).await;
        world.publish(&Cancelled { id: trip.id });
        world.publish(&Moved { id: trip.id });
        world.caught_up().await;
        world.eventually("the saga goes on", async || world.types("seat.events").len() == 2).await;
        assert_eq!(world.header("seat.events", header::COMPENSATION_FAILED), ["true", ""]);
        assert_eq!(world.types("seat.events"), ["seat.freed", "seat.noted"]);
        let summary = world.store.summary().await.unwrap();
        assert_eq!((summary.failed_compensations, summary.parked_sagas, summary.blocked_sagas), (1, 0, 0));
    })
    .await;
}
