//! Every row of the barrier's truth table, through real rows.

use saga_core::{
    barrier::{Before, Cause, Mark, Op, Row, Skip, Verdict},
    event::SagaId,
    store::{Admission, Changes, ParkChange, Parking, Phase, Store},
};
use uuid::Uuid;

use crate::support::{PATIENCE, STEP, admission, admit, append, begin, commit, decide, marked, marks, parking, run};

const DUPLICATE: Verdict = Verdict::Skip(Skip::Duplicate);
/// Another event of the same type.
const REPETITION: Verdict = Verdict::Skip(Skip::Repetition);
const LATE: Verdict = Verdict::Skip(Skip::Late);

on_both! {
    async fn the_first_action_runs_and_a_second_one_is_skipped_as_what_it_is(f: &Fixture) {
        let saga = SagaId::random();
        let event = admission(saga, Op::Action, Phase::Whole);
        assert_eq!(admit(&f.db, &event).await, Verdict::Run);
        let (tx, before) = begin(&f.db, &event).await;
        let row = Row { mark: Mark::Done, cause: Some(event.cause.clone()), effect_key: None, round: 0 };
        assert_eq!(before, Before { action: Some(row), ..Before::default() });
        drop(tx);
        assert_eq!(admit(&f.db, &event).await, DUPLICATE);
        assert_eq!(admit(&f.db, &admission(saga, Op::Action, Phase::Whole)).await, REPETITION);
        let cause = Cause { event_type: "order.repeated".to_owned(), ..admission(saga, Op::Action, Phase::Whole).cause };
        assert_eq!(admit(&f.db, &Admission { cause, ..event.clone() }).await, Verdict::Skip(Skip::Alternative));
    }

    async fn a_compensation_after_its_action_runs_once(f: &Fixture) {
        let saga = SagaId::random();
        run(&f.db, saga, Op::Action, Phase::Whole).await;
        assert_eq!(run(&f.db, saga, Op::Compensate, Phase::Whole).await, Verdict::Run);
        assert_eq!(run(&f.db, saga, Op::Compensate, Phase::Whole).await, REPETITION);
        assert_eq!(run(&f.db, saga, Op::Action, Phase::Whole).await, LATE);
    }

    async fn a_compensation_before_its_action_is_null_and_the_action_comes_too_late(f: &Fixture) {
        let saga = SagaId::random();
        let (tx, before) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
        assert_eq!(before, Before::default(), "rows that the admission itself wrote were not there before");
        f.db.commit(tx, Changes::default()).await.unwrap();
        let (tx, before) = begin(&f.db, &admission(saga, Op::Action, Phase::Whole)).await;
        assert_eq!(marks(&before), (Some(Mark::Null), Some(Mark::Done)));
        drop(tx);
        assert_eq!(run(&f.db, saga, Op::Compensate, Phase::Whole).await, REPETITION);
    }

    async fn a_refused_action_has_nothing_to_compensate(f: &Fixture) {
        let saga = SagaId::random();
        let (tx, _) = begin(&f.db, &admission(saga, Op::Action, Phase::Whole)).await;
        f.db.commit(tx, marked(saga, Op::Action, Mark::Refused)).await.unwrap();
        assert_eq!(run(&f.db, saga, Op::Action, Phase::Whole).await, REPETITION);
        assert_eq!(run(&f.db, saga, Op::Compensate, Phase::Whole).await, Verdict::NullCompensation);
        assert_eq!(run(&f.db, saga, Op::Compensate, Phase::Whole).await, REPETITION);
    }

    async fn an_action_with_an_effect_starts_and_finishes(f: &Fixture) {
        let saga = SagaId::random();
        let start = admission(saga, Op::Action, Phase::Start);
        assert_eq!(admit(&f.db, &start).await, Verdict::Run);
        // A crash between the two: the start is tried again and runs again.
        let (tx, before) = begin(&f.db, &start).await;
        assert_eq!(marks(&before), (Some(Mark::Started), None));
        f.db.commit(tx, Changes::default()).await.unwrap();

        let finish = Admission { phase: Phase::Finish, ..start.clone() };
        let (tx, before) = begin(&f.db, &finish).await;
        assert_eq!(marks(&before), (Some(Mark::Started), None));
        f.db.commit(tx, marked(saga, Op::Action, Mark::Done)).await.unwrap();

        assert_eq!(admit(&f.db, &start).await, DUPLICATE);
        assert_eq!(admit(&f.db, &finish).await, DUPLICATE);
        let (tx, before) = begin(&f.db, &admission(saga, Op::Action, Phase::Start)).await;
        assert_eq!(marks(&before), (Some(Mark::Done), None));
        drop(tx);
    }

    async fn a_compensation_after_a_crash_between_effect_and_record_runs(f: &Fixture) {
        let saga = SagaId::random();
        run(&f.db, saga, Op::Action, Phase::Start).await;
        let start = admission(saga, Op::Compensate, Phase::Start);
        assert_eq!(admit(&f.db, &start).await, Verdict::Run);
        assert_eq!(admit(&f.db, &start).await, Verdict::Run, "the compensation itself is interrupted and tried again");
        let (tx, before) = begin(&f.db, &Admission { phase: Phase::Finish, ..start.clone() }).await;
        assert_eq!(marks(&before), (Some(Mark::Started), Some(Mark::Started)));
        f.db.commit(tx, marked(saga, Op::Compensate, Mark::Done)).await.unwrap();
        assert_eq!(run(&f.db, saga, Op::Compensate, Phase::Start).await, REPETITION);
    }

    async fn the_end_of_an_action_that_was_compensated_meanwhile_comes_too_late(f: &Fixture) {
        let saga = SagaId::random();
        let start = admission(saga, Op::Action, Phase::Start);
        admit(&f.db, &start).await;
        run(&f.db, saga, Op::Compensate, Phase::Whole).await;
        let (tx, before) = begin(&f.db, &Admission { phase: Phase::Finish, ..start.clone() }).await;
        assert_eq!(decide(Op::Action, &start.cause, &before), LATE);
        drop(tx);
    }

    async fn an_effect_that_is_being_voided_is_neither_started_nor_finished_again(f: &Fixture) {
        let saga = SagaId::random();
        let start = admission(saga, Op::Action, Phase::Start);
        admit(&f.db, &start).await;
        let (tx, before) = begin(&f.db, &Admission { phase: Phase::Recheck, ..start.clone() }).await;
        assert_eq!(marks(&before), (Some(Mark::Started), None));
        f.db.commit(tx, marked(saga, Op::Action, Mark::Voiding)).await.unwrap();

        for phase in [Phase::Start, Phase::Recheck, Phase::Finish] {
            let (tx, before) = begin(&f.db, &Admission { phase, ..start.clone() }).await;
            assert_eq!(marks(&before), (Some(Mark::Voiding), None), "{phase:?}");
            drop(tx);
        }
        assert_eq!(run(&f.db, saga, Op::Compensate, Phase::Whole).await, Verdict::Run);
    }

    async fn a_null_compensation_with_an_effect_is_recorded_by_its_start(f: &Fixture) {
        let saga = SagaId::random();
        let event = admission(saga, Op::Compensate, Phase::Start);
        let (tx, before) = begin(&f.db, &event).await;
        assert_eq!(decide(Op::Compensate, &event.cause, &before), Verdict::NullCompensation);
        f.db.commit(tx, marked(saga, Op::Compensate, Mark::Done)).await.unwrap();
        assert_eq!(admit(&f.db, &event).await, DUPLICATE);
        assert_eq!(run(&f.db, saga, Op::Action, Phase::Start).await, LATE);
    }

    async fn events_of_a_parked_saga_write_nothing_and_its_head_is_admitted(f: &Fixture) {
        let saga = SagaId::random();
        commit(&f.db, Changes { park: vec![append(saga, "head", 0)], ..Changes::default() }).await;
        for phase in [Phase::Whole, Phase::Start, Phase::Finish] {
            assert_eq!(run(&f.db, saga, Op::Action, phase).await, Verdict::Queue);
        }
        assert_eq!(f.count("SELECT count(*) FROM saga_barrier").await, 0);
        let head = Admission { from_parked: true, ..admission(saga, Op::Action, Phase::Whole) };
        assert_eq!(admit(&f.db, &head).await, Verdict::Run);
        let again = Admission { from_parked: false, ..head };
        let (tx, before) = begin(&f.db, &again).await;
        assert!(before.parked);
        assert_eq!(decide(Op::Action, &again.cause, &before), DUPLICATE, "what is done is known although its saga is parked");
        drop(tx);
    }

    async fn a_compensation_overtakes_its_own_parked_action_and_no_other_event(f: &Fixture) {
        for phase in [Phase::Whole, Phase::Start] {
            let saga = SagaId::random();
            let other = Parking { step: "pack", ..parking(saga, "of another step", 0) };
            commit(&f.db, Changes { park: vec![ParkChange::Append(other)], ..Changes::default() }).await;
            let compensation = admission(saga, Op::Compensate, phase);
            assert_eq!(admit(&f.db, &compensation).await, Verdict::Queue);
            commit(&f.db, Changes { park: vec![append(saga, "action", 0)], ..Changes::default() }).await;
            let (tx, before) = begin(&f.db, &compensation).await;
            let seq = f.db.query_opt("SELECT max(seq) FROM saga_parked", []).await.unwrap().unwrap().get(0).unwrap();
            assert_eq!((before.parked, before.overtakes), (false, Some(seq)));
            assert_eq!(decide(Op::Compensate, &compensation.cause, &before), Verdict::NullCompensation);
            f.db.commit(tx, Changes::default()).await.unwrap();
            let action = admission(saga, Op::Action, Phase::Recheck);
            assert_eq!(admit(&f.db, &action).await, LATE, "so that an action is not parked for nothing");
        }
        assert_eq!(STEP, "reserve");
    }

    async fn the_key_of_an_effect_is_kept_with_its_start(f: &Fixture) {
        let (saga, key, other) = (SagaId::random(), Some(Uuid::new_v4()), Some(Uuid::new_v4()));
        let start = Admission { effect_key: key, ..admission(saga, Op::Action, Phase::Start) };
        admit(&f.db, &start).await;
        for phase in [Phase::Start, Phase::Finish, Phase::Recheck] {
            let (tx, before) = begin(&f.db, &Admission { effect_key: other, phase, ..start.clone() }).await;
            assert_eq!(before.action.and_then(|row| row.effect_key), key, "{phase:?}");
            drop(tx);
        }
        let undo = Admission { effect_key: other, ..admission(saga, Op::Compensate, Phase::Start) };
        admit(&f.db, &undo).await;
        let (tx, before) = begin(&f.db, &Admission { effect_key: None, ..undo }).await;
        assert_eq!((before.action.unwrap().effect_key, before.compensation.unwrap().effect_key), (key, other));
        drop(tx);
    }

    async fn a_rollback_leaves_nothing(f: &Fixture) {
        let saga = SagaId::random();
        for op in [Op::Action, Op::Compensate] {
            let (tx, before) = begin(&f.db, &admission(saga, op, Phase::Whole)).await;
            assert_eq!(before, Before::default());
            tx.execute("UPDATE stock SET available = 0", []).await.unwrap();
            drop(tx);
        }
        assert_eq!(run(&f.db, saga, Op::Action, Phase::Whole).await, Verdict::Run);
        assert_eq!(f.count("SELECT available FROM stock").await, 100);
    }

    async fn a_batch_answers_for_each_event_in_its_place(f: &Fixture) {
        let sagas: Vec<SagaId> = (0..40).map(|_| SagaId::random()).collect();
        let phase = |i: usize| if i.is_multiple_of(3) { Phase::Start } else { Phase::Whole };
        let first: Vec<Admission> =
            sagas.iter().enumerate().map(|(i, saga)| admission(*saga, Op::Action, phase(i))).collect();
        let (tx, before) = f.db.begin(&first, PATIENCE).await.unwrap();
        assert_eq!(before, vec![Before::default(); 40]);
        f.db.commit(tx, Changes::default()).await.unwrap();

        // Duplicates, duplicates under new ids, compensations, ends and new sagas, mixed and in another order.
        let second: Vec<Admission> = (0..40)
            .rev()
            .map(|i| match i % 5 {
                0 => first[i].clone(),
                1 => admission(sagas[i], Op::Action, phase(i)),
                2 => admission(sagas[i], Op::Compensate, Phase::Whole),
                3 => Admission { phase: Phase::Finish, ..first[i].clone() },
                _ => admission(SagaId::random(), Op::Compensate, Phase::Start),
            })
            .collect();
        let (tx, before) = f.db.begin(&second, PATIENCE).await.unwrap();
        for (i, before) in (0..40).rev().zip(before) {
            let whole = phase(i) == Phase::Whole;
            let mark = Some(if whole { Mark::Done } else { Mark::Started });
            assert_eq!(marks(&before), (if i % 5 == 4 { None } else { mark }, None), "event {i}");
        }
        drop(tx);
    }

    async fn one_event_id_in_two_sagas_is_two_events(f: &Fixture) {
        let one = admission(SagaId::random(), Op::Action, Phase::Whole);
        let other = Admission { cause: one.cause.clone(), ..admission(SagaId::random(), Op::Action, Phase::Whole) };
        let (tx, before) = f.db.begin(&[one, other], PATIENCE).await.unwrap();
        assert_eq!(before, [Before::default(), Before::default()]);
        f.db.commit(tx, Changes::default()).await.unwrap();
        assert_eq!(f.count("SELECT count(*) FROM saga_barrier").await, 2);
    }
}
