//! Two instances of a participant that handle events of one saga at the same moment, on PostgreSQL; SQLite lets one
//! transaction write at a time.

use saga_core::{
    barrier::{Before, Mark, Op, Skip, Verdict},
    event::SagaId,
    store::{Admission, Changes, Phase, Store},
};
use saga_store::{Db, Tx};
use tokio::task::JoinHandle;

use crate::support::{Fixture, PATIENCE, admission, admit, begin, decide, marked, marks, run};

/// The verdict on an event of its own.
fn verdict(op: Op, before: &Before) -> Verdict {
    decide(op, &admission(SagaId::random(), op, Phase::Whole).cause, before)
}

/// Begins in a task of its own, and returns once the server says that it waits for a lock.
pub(crate) async fn begin_and_wait(f: &Fixture, db: &Db, event: &Admission) -> JoinHandle<(Tx, Before)> {
    let (db, event) = (db.clone(), event.clone());
    let begun = tokio::spawn(async move { begin(&db, &event).await });
    until_one_waits(f, || begun.is_finished()).await;
    begun
}

/// Returns once the server says that a transaction waits for a lock.
pub(crate) async fn until_one_waits(f: &Fixture, has_ended: impl Fn() -> bool) {
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = current_schema()";
    while f.count(sql).await == 0 {
        assert!(!has_ended(), "it did not wait");
    }
}

#[tokio::test]
async fn a_compensation_waits_for_its_action_in_flight_and_then_undoes_it() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let (tx, _) = begin(&f.db, &admission(saga, Op::Action, Phase::Whole)).await;
    let waits = begin_and_wait(&f, &other, &admission(saga, Op::Compensate, Phase::Whole)).await;
    f.db.commit(tx, Changes::default()).await.unwrap();
    let (_tx, before) = waits.await.unwrap();
    assert_eq!(marks(&before), (Some(Mark::Done), None));
}

#[tokio::test]
async fn a_compensation_waits_for_its_action_in_flight_and_sees_that_it_refused() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let (tx, _) = begin(&f.db, &admission(saga, Op::Action, Phase::Whole)).await;
    let waits = begin_and_wait(&f, &other, &admission(saga, Op::Compensate, Phase::Start)).await;
    f.db.commit(tx, marked(saga, Op::Action, Mark::Refused)).await.unwrap();
    let (_tx, before) = waits.await.unwrap();
    assert_eq!(verdict(Op::Compensate, &before), Verdict::NullCompensation);
}

#[tokio::test]
async fn a_compensation_waits_for_its_action_in_flight_and_is_null_when_that_rolls_back() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let (tx, _) = begin(&f.db, &admission(saga, Op::Action, Phase::Whole)).await;
    let waits = begin_and_wait(&f, &other, &admission(saga, Op::Compensate, Phase::Whole)).await;
    drop(tx);
    let (tx, before) = waits.await.unwrap();
    assert_eq!(before, Before::default());
    other.commit(tx, Changes::default()).await.unwrap();
    assert_eq!(run(&f.db, saga, Op::Action, Phase::Whole).await, Verdict::Skip(Skip::Late));
}

#[tokio::test]
async fn an_action_waits_for_its_compensation_in_flight_and_comes_too_late() {
    let Some(f) = Fixture::postgres().await else { return };
    for phase in [Phase::Whole, Phase::Start] {
        let (other, saga) = (f.another().await, SagaId::random());
        let (tx, _) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
        let waits = begin_and_wait(&f, &other, &admission(saga, Op::Action, phase)).await;
        f.db.commit(tx, Changes::default()).await.unwrap();
        let (_tx, before) = waits.await.unwrap();
        assert_eq!(verdict(Op::Action, &before), Verdict::Skip(Skip::Late));
    }
}

#[tokio::test]
async fn a_compensation_waits_for_the_end_of_its_action_and_sees_it_done() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let start = admission(saga, Op::Action, Phase::Start);
    admit(&f.db, &start).await;
    let (tx, before) = begin(&f.db, &Admission { phase: Phase::Finish, ..start }).await;
    assert_eq!(marks(&before).0, Some(Mark::Started));
    let waits = begin_and_wait(&f, &other, &admission(saga, Op::Compensate, Phase::Start)).await;
    f.db.commit(tx, marked(saga, Op::Action, Mark::Done)).await.unwrap();
    let (_tx, before) = waits.await.unwrap();
    assert_eq!(marks(&before), (Some(Mark::Done), None));
}

#[tokio::test]
async fn the_end_of_an_action_waits_for_its_compensation_and_comes_too_late() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let start = admission(saga, Op::Action, Phase::Start);
    admit(&f.db, &start).await;
    let (tx, before) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
    assert_eq!(verdict(Op::Compensate, &before), Verdict::Run);
    let waits = begin_and_wait(&f, &other, &Admission { phase: Phase::Finish, ..start }).await;
    f.db.commit(tx, Changes::default()).await.unwrap();
    let (_tx, before) = waits.await.unwrap();
    assert_eq!(marks(&before), (Some(Mark::Started), Some(Mark::Done)));
    assert_eq!(verdict(Op::Action, &before), Verdict::Skip(Skip::Late));
}

#[tokio::test]
async fn two_compensations_under_different_ids_run_once() {
    let Some(f) = Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    run(&f.db, saga, Op::Action, Phase::Whole).await;
    let (tx, before) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
    assert_eq!(verdict(Op::Compensate, &before), Verdict::Run);
    let waits = begin_and_wait(&f, &other, &admission(saga, Op::Compensate, Phase::Whole)).await;
    f.db.commit(tx, Changes::default()).await.unwrap();
    let (_tx, before) = waits.await.unwrap();
    assert_eq!(verdict(Op::Compensate, &before), Verdict::Skip(Skip::Repetition));
}

#[tokio::test]
async fn the_same_event_in_two_instances_is_handled_by_one_of_them() {
    let Some(f) = Fixture::postgres().await else { return };
    for commits in [true, false] {
        let (other, event) = (f.another().await, admission(SagaId::random(), Op::Action, Phase::Whole));
        let (tx, _) = begin(&f.db, &event).await;
        let waits = begin_and_wait(&f, &other, &event).await;
        if commits {
            f.db.commit(tx, Changes::default()).await.unwrap();
        } else {
            drop(tx);
        }
        let (_tx, before) = waits.await.unwrap();
        let handled = decide(event.op, &event.cause, &before) == Verdict::Skip(Skip::Duplicate);
        assert_eq!(handled, commits);
    }
}

#[tokio::test]
async fn overlapping_batches_in_opposite_orders_do_not_deadlock() {
    let Some(f) = Fixture::postgres().await else { return };
    let other = f.another().await;
    for round in 0..20 {
        let sagas: Vec<SagaId> = (0..50).map(|_| SagaId::random()).collect();
        let op = |i: usize| if (i + round).is_multiple_of(2) { Op::Action } else { Op::Compensate };
        let batch: Vec<_> = sagas.iter().enumerate().map(|(i, s)| admission(*s, op(i), Phase::Whole)).collect();
        let opposite: Vec<_> =
            sagas.iter().enumerate().rev().map(|(i, s)| admission(*s, op(i + 1), Phase::Whole)).collect();
        let run = async |db: Db, batch: Vec<Admission>| {
            let (tx, before) = db.begin(&batch, PATIENCE).await.unwrap();
            db.commit(tx, Changes::default()).await.unwrap();
            before
        };
        let (one, two) = tokio::join!(
            tokio::spawn(run(f.db.clone(), batch.clone())),
            tokio::spawn(run(other.clone(), opposite.clone()))
        );
        // Whoever came second knows the other's rows: no saga was given to both.
        let first = one.unwrap().iter().filter(|before| **before == Before::default()).count();
        let second = two.unwrap().iter().filter(|before| **before == Before::default()).count();
        assert_eq!(first + second, 50);
    }
}
