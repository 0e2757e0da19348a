//! Joins: what has arrived is stored with its barrier row, and two parts that arrive in two processes at once meet.

use std::time::Duration;

use saga_core::{
    barrier::{Arrival, Before, Cause, Mark, Op},
    event::SagaId,
    store::{Admission, Changes, Disarm, LockedStep, MarkChange, NewArrival, Phase, Progress, Store, Timer, TimerKind},
    trace::TraceContext,
};
use saga_store::{Db, Tx};
use uuid::Uuid;

use crate::{
    races::{begin_and_wait, until_one_waits},
    support::{Fixture, PATIENCE, STEP, admission, append, at, begin, marked, marks},
};

/// A part of a join: an event of this type.
fn part(saga_id: SagaId, op: Op, event_type: &str) -> Admission {
    let cause = Cause { id: Uuid::new_v4(), event_type: event_type.to_owned() };
    Admission { cause, joins: true, ..admission(saga_id, op, Phase::Whole) }
}

fn arrival(part: &Admission) -> Arrival {
    Arrival { cause: part.cause.clone(), version: 3, data: vec![0, 255, b'{'], partly_compensated: true }
}

fn arrived(part: &Admission) -> Changes {
    let arrival = NewArrival { saga_id: part.saga_id, step: STEP, op: part.op, arrival: arrival(part), is_last: false };
    Changes { arrivals: vec![arrival], ..Changes::default() }
}

fn sorted(before: Before) -> Vec<Arrival> {
    let mut arrivals = before.arrivals;
    arrivals.sort_by(|a, b| a.cause.event_type.cmp(&b.cause.event_type));
    arrivals
}

on_both! {
    async fn a_join_waits_with_what_has_arrived(f: &Fixture) {
        for op in [Op::Action, Op::Compensate] {
            let saga = SagaId::random();
            let (flight, hotel) = (part(saga, op, "flight.reserved"), part(saga, op, "hotel.reserved"));
            let (tx, before) = begin(&f.db, &flight).await;
            assert_eq!(before, Before::default());
            f.db.commit(tx, arrived(&flight)).await.unwrap();
            let (tx, before) = begin(&f.db, &hotel).await;
            let action = if op == Op::Action { Mark::Waiting } else { Mark::Null };
            assert_eq!(marks(&before), (Some(action), (op == Op::Compensate).then_some(Mark::Waiting)));
            assert_eq!(before.arrivals, [arrival(&flight)]);
            f.db.commit(tx, arrived(&hotel)).await.unwrap();
            let (_tx, before) = begin(&f.db, &part(saga, op, "car.reserved")).await;
            assert_eq!(sorted(before), [arrival(&flight), arrival(&hotel)]);
        }
    }

    async fn an_arrival_that_is_rolled_back_has_not_arrived(f: &Fixture) {
        let saga = SagaId::random();
        let flight = part(saga, Op::Action, "flight.reserved");
        let (tx, _) = begin(&f.db, &flight).await;
        drop(tx);
        let (_tx, before) = begin(&f.db, &part(saga, Op::Action, "hotel.reserved")).await;
        assert_eq!(before, Before::default());
    }

    async fn the_first_event_of_a_type_stays_and_other_sagas_steps_and_halves_have_their_own(f: &Fixture) {
        let saga = SagaId::random();
        let flight = part(saga, Op::Action, "flight.reserved");
        let (tx, _) = begin(&f.db, &flight).await;
        f.db.commit(tx, arrived(&flight)).await.unwrap();
        let again = part(saga, Op::Action, "flight.reserved");
        let (tx, _) = begin(&f.db, &again).await;
        f.db.commit(tx, arrived(&again)).await.unwrap();
        let (tx, before) = begin(&f.db, &again).await;
        assert_eq!(before.arrivals, [arrival(&flight)]);
        drop(tx);
        let other_step = Admission { step: "other", ..part(saga, Op::Action, "flight.reserved") };
        for other in [part(SagaId::random(), Op::Action, "flight.reserved"), part(saga, Op::Compensate, "x"), other_step] {
            let (_tx, before) = begin(&f.db, &other).await;
            assert_eq!(before.arrivals, []);
        }
    }

    async fn a_compensation_finds_its_join_waiting_and_closes_it(f: &Fixture) {
        let saga = SagaId::random();
        let flight = part(saga, Op::Action, "flight.reserved");
        let (tx, _) = begin(&f.db, &flight).await;
        f.db.commit(tx, arrived(&flight)).await.unwrap();
        let (tx, before) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
        assert_eq!(marks(&before), (Some(Mark::Waiting), None));
        f.db.commit(tx, marked(saga, Op::Action, Mark::Null)).await.unwrap();
        let (_tx, before) = begin(&f.db, &part(saga, Op::Action, "hotel.reserved")).await;
        assert_eq!(marks(&before), (Some(Mark::Null), Some(Mark::Done)));
    }

    async fn the_effect_of_a_join_is_started_under_its_key(f: &Fixture) {
        let (saga, key) = (SagaId::random(), Uuid::new_v4());
        let start = Admission { phase: Phase::Start, effect_key: Some(key), ..part(saga, Op::Action, "hotel.reserved") };
        let (tx, _) = begin(&f.db, &start).await;
        let mark = MarkChange { saga_id: saga, step: STEP, op: Op::Action, mark: Mark::Started, effect_key: Some(key), round: None };
        f.db.commit(tx, Changes { marks: vec![mark], ..Changes::default() }).await.unwrap();
        let (tx, before) = begin(&f.db, &Admission { phase: Phase::Finish, ..start.clone() }).await;
        let row = before.action.unwrap();
        assert_eq!((row.mark, row.effect_key), (Mark::Started, Some(key)));
        f.db.commit(tx, marked(saga, Op::Action, Mark::Done)).await.unwrap();
        let (_tx, before) = begin(&f.db, &start).await;
        let row = before.action.unwrap();
        assert_eq!((row.mark, row.effect_key), (Mark::Done, Some(key)));
    }

    async fn the_timer_of_a_join_learns_whether_it_waits(f: &Fixture) {
        let saga = SagaId::random();
        let flight = part(saga, Op::Action, "flight.reserved");
        let (tx, _) = begin(&f.db, &flight).await;
        f.db.commit(tx, armed(&flight)).await.unwrap();
        let (tx, locked) = fire(&f.db, saga).await;
        assert_eq!(locked, [LockedStep { mark: Some(Mark::Waiting), partly_compensated: true, ended: false }]);
        drop(tx);
        let (mut tx, _) = f.db.begin_due(10, PATIENCE).await.unwrap();
        let asked = [(SagaId::random(), STEP), (saga, STEP), (saga, "other")];
        let locked = f.db.lock_steps(&mut tx, &asked).await.unwrap();
        assert_eq!(locked.iter().map(|step| step.mark).collect::<Vec<_>>(), [None, Some(Mark::Waiting), None]);
        assert_eq!(locked.iter().map(|step| step.partly_compensated).collect::<Vec<_>>(), [false, true, false]);
    }

    async fn the_data_of_arrivals_is_dropped_when_the_join_has_ended(f: &Fixture) {
        let saga = SagaId::random();
        let (flight, hotel) = (part(saga, Op::Action, "flight.reserved"), part(saga, Op::Action, "hotel.reserved"));
        let (tx, _) = begin(&f.db, &flight).await;
        f.db.commit(tx, arrived(&flight)).await.unwrap();
        let (tx, _) = begin(&f.db, &hotel).await;
        let mut last = arrived(&hotel);
        last.arrivals[0].is_last = true;
        f.db.commit(tx, Changes { marks: marked(saga, Op::Action, Mark::Done).marks, ..last }).await.unwrap();
        let (_tx, before) = begin(&f.db, &hotel).await;
        let known = [flight, hotel].map(|part| Arrival { data: Vec::new(), ..arrival(&part) });
        assert_eq!(sorted(before), known);
    }

    async fn the_end_of_a_saga_closes_the_joins_that_wait_and_arms_none(f: &Fixture) {
        let (saga, other) = (SagaId::random(), SagaId::random());
        for saga in [saga, other] {
            let flight = part(saga, Op::Action, "flight.reserved");
            let (tx, before) = begin(&f.db, &flight).await;
            assert!(!before.ended);
            f.db.commit(tx, arrived(&flight)).await.unwrap();
        }
        let ended = vec![Progress { saga_id: saga, at: at(0) }];
        let tx = f.db.begin_plain().await.unwrap();
        f.db.commit(tx, Changes { ended, close: vec![saga], ..Changes::default() }).await.unwrap();
        let hotel = part(saga, Op::Action, "hotel.reserved");
        let (tx, before) = begin(&f.db, &hotel).await;
        assert_eq!((marks(&before), before.ended), ((Some(Mark::Null), None), true));
        f.db.commit(tx, armed(&hotel)).await.unwrap();
        let (tx, due) = f.db.begin_due(10, PATIENCE).await.unwrap();
        assert_eq!(due, []);
        drop(tx);
        let mut tx = f.db.begin_plain().await.unwrap();
        let locked = f.db.lock_steps(&mut tx, &[(saga, STEP), (other, STEP)]).await.unwrap();
        assert_eq!(locked.iter().map(|step| step.ended).collect::<Vec<_>>(), [true, false]);
        drop(tx);
        let (_tx, before) = begin(&f.db, &part(other, Op::Action, "hotel.reserved")).await;
        assert_eq!((marks(&before), before.ended), ((Some(Mark::Waiting), None), false));
    }
}

#[tokio::test]
async fn two_parts_that_arrive_in_two_processes_at_once_meet_at_their_row() {
    let Some(f) = Fixture::postgres().await else { return };
    for op in [Op::Action, Op::Compensate] {
        let (other, saga) = (f.another().await, SagaId::random());
        let (flight, hotel) = (part(saga, op, "flight.reserved"), part(saga, op, "hotel.reserved"));
        let (tx, _) = begin(&f.db, &flight).await;
        let waits = begin_and_wait(&f, &other, &hotel).await;
        f.db.commit(tx, arrived(&flight)).await.unwrap();
        let (_tx, before) = waits.await.unwrap();
        assert_eq!(before.arrivals, [arrival(&flight)], "{op:?}");
    }
}

#[tokio::test]
async fn a_part_waits_for_the_compensation_in_flight_that_closes_its_join() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let flight = part(saga, Op::Action, "flight.reserved");
    let (tx, _) = begin(&f.db, &flight).await;
    f.db.commit(tx, arrived(&flight)).await.unwrap();
    let (tx, _) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
    let waits = begin_and_wait(&f, &other, &part(saga, Op::Action, "hotel.reserved")).await;
    f.db.commit(tx, marked(saga, Op::Action, Mark::Null)).await.unwrap();
    let (_tx, before) = waits.await.unwrap();
    assert_eq!(marks(&before), (Some(Mark::Null), Some(Mark::Done)));
}

/// Takes the timer of a join out of the table and locks the join.
async fn fire(db: &Db, saga: SagaId) -> (Tx, Vec<LockedStep>) {
    let (mut tx, due) = db.begin_due(10, PATIENCE).await.unwrap();
    assert_eq!(due.len(), 1);
    let locked = db.lock_steps(&mut tx, &[(saga, STEP)]).await.unwrap();
    (tx, locked)
}

fn armed(part: &Admission) -> Changes {
    let (saga_id, kind) = (part.saga_id, TimerKind::Arrivals);
    let timer = Timer { saga_id, step: STEP, kind, after: Duration::ZERO, trace: TraceContext::default() };
    Changes { arm: vec![timer], ..arrived(part) }
}

#[tokio::test]
async fn the_last_part_waits_for_the_timer_in_flight_that_closes_its_join() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let flight = part(saga, Op::Action, "flight.reserved");
    let (tx, _) = begin(&f.db, &flight).await;
    f.db.commit(tx, armed(&flight)).await.unwrap();
    let (tx, _) = fire(&f.db, saga).await;
    let waits = begin_and_wait(&f, &other, &part(saga, Op::Action, "hotel.reserved")).await;
    f.db.commit(tx, marked(saga, Op::Action, Mark::Refused)).await.unwrap();
    let (_tx, before) = waits.await.unwrap();
    assert_eq!(marks(&before), (Some(Mark::Refused), None));
}

#[tokio::test]
async fn the_timer_waits_for_the_last_part_in_flight_that_completes_its_join() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let (flight, hotel) = (part(saga, Op::Action, "flight.reserved"), part(saga, Op::Action, "hotel.reserved"));
    let (tx, _) = begin(&f.db, &flight).await;
    f.db.commit(tx, armed(&flight)).await.unwrap();
    let (tx, _) = begin(&f.db, &hotel).await;
    let timer = tokio::spawn(async move { fire(&other, saga).await.1 });
    until_one_waits(&f, || timer.is_finished()).await;
    // The timer is in flight: disarming skips it.
    let disarm = vec![Disarm::one(saga, STEP, TimerKind::Arrivals)];
    let done = Changes { disarm, ..marked(saga, Op::Action, Mark::Done) };
    f.db.commit(tx, done).await.unwrap();
    assert_eq!(timer.await.unwrap()[0].mark, Some(Mark::Done));
}

/// The saga is parked with a part of the join at its head. That part is tried again in one process while another part arrives in
/// another process, and is queued behind it.
#[tokio::test]
async fn a_part_that_is_queued_and_the_parked_part_of_its_join_do_not_wait_for_each_other() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let (flight, hotel, car) = (
        part(saga, Op::Action, "flight.reserved"),
        part(saga, Op::Action, "hotel.reserved"),
        part(saga, Op::Action, "car.reserved"),
    );
    let (tx, _) = begin(&f.db, &flight).await;
    f.db.commit(tx, arrived(&flight)).await.unwrap();
    let (tx, _) = f.db.begin(&[], PATIENCE).await.unwrap();
    f.db.commit(tx, Changes { park: vec![append(saga, "hotel", 1)], ..Changes::default() }).await.unwrap();
    // The fresh part finds the saga parked.
    let (tx, before) = begin(&f.db, &car).await;
    assert!(before.parked);
    let waits = begin_and_wait(&f, &other, &Admission { from_parked: true, ..hotel }).await;
    let queued = Changes { park: vec![append(saga, "car", 2)], ..Changes::default() };
    f.db.commit(tx, queued).await.unwrap();
    waits.await.unwrap();
}
