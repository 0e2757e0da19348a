//! Durable timers.

use std::time::Duration;

use saga_core::{
    event::SagaId,
    store::{Changes, Disarm, DueTimer, Progress, Store, Timer, TimerKind},
    trace::TraceContext,
};
use saga_store::{Db, Tx};

use crate::support::{PATIENCE, at, commit, hours_left};

const NOW: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

fn timer(saga_id: SagaId, step: &'static str, after: Duration) -> Timer {
    let tracestate = (!after.is_zero()).then(|| "a=b".into());
    let kind = TimerKind::Step;
    Timer { saga_id, step, kind, after, trace: TraceContext { traceparent: Some("00-1-2-01".into()), tracestate } }
}

fn arm(timers: &[&Timer]) -> Changes {
    Changes { arm: timers.iter().map(|timer| (*timer).clone()).collect(), ..Changes::default() }
}

async fn fire(db: &Db, limit: usize) -> (Tx, Vec<DueTimer>) {
    db.begin_due(limit, PATIENCE).await.unwrap()
}

/// Whether these timers are due, in this order.
fn are(due: &[DueTimer], timers: &[&Timer]) -> bool {
    due.is_sorted_by_key(|timer| timer.due)
        && due.iter().map(|t| (t.saga_id, &*t.step, &t.trace)).eq(timers.iter().map(|t| (t.saga_id, t.step, &t.trace)))
}

on_both! {
    async fn due_timers_are_taken_oldest_first_and_once(f: &Fixture) {
        let (early, late) = (timer(SagaId::random(), "a", NOW), timer(SagaId::random(), "a", Duration::from_millis(30)));
        let later = timer(late.saga_id, "b", 2 * HOUR);
        commit(&f.db, arm(&[&later, &late, &early])).await;
        assert_eq!(hours_left(&f.db).await, Some(0));
        assert_eq!(f.db.summary().await.unwrap().timers, 3);
        let (tx, due) = loop {
            let (tx, due) = fire(&f.db, 10).await;
            if due.len() > 1 {
                break (tx, due);
            }
        };
        assert!(are(&due, &[&early, &late]), "{due:?}");
        f.db.commit(tx, Changes::default()).await.unwrap();
        assert_eq!(hours_left(&f.db).await, Some(2));
        let (_tx, due) = fire(&f.db, 10).await;
        assert_eq!(due, []);
    }

    async fn the_limit_takes_the_oldest(f: &Fixture) {
        let timers = ["a", "b", "c"].map(|step| timer(SagaId::random(), step, NOW));
        for timer in &timers {
            commit(&f.db, arm(&[timer])).await;
        }
        let (tx, due) = fire(&f.db, 2).await;
        assert!(are(&due, &[&timers[0], &timers[1]]), "{due:?}");
        f.db.commit(tx, Changes::default()).await.unwrap();
    }

    async fn only_the_timers_that_are_named_are_postponed(f: &Fixture) {
        let timers = ["a", "b", "c"].map(|step| timer(SagaId::random(), step, NOW));
        for timer in &timers {
            commit(&f.db, arm(&[timer])).await;
        }
        let (tx, due) = fire(&f.db, 2).await;
        assert!(are(&due, &[&timers[0], &timers[1]]), "{due:?}");
        drop(tx);
        // Whoever is answered on the same connection next is answered after the rollback: no timer is locked then.
        f.db.mark_sent(&[]).await.unwrap();
        // The handler of the second failed. The first was armed anew meanwhile: it is not what it was.
        commit(&f.db, Changes { disarm: vec![Disarm::waits(timers[0].saga_id)], ..arm(&[&timers[0]]) }).await;
        f.db.postpone(&due, HOUR).await.unwrap();
        let (tx, due) = fire(&f.db, 10).await;
        assert!(are(&due, &[&timers[2], &timers[0]]), "{due:?}");
        f.db.commit(tx, Changes::default()).await.unwrap();
        assert_eq!(hours_left(&f.db).await, Some(1));
    }

    async fn a_rollback_leaves_timers_armed(f: &Fixture) {
        let one = timer(SagaId::random(), "a", NOW);
        commit(&f.db, arm(&[&one])).await;
        for _ in 0..2 {
            let (tx, due) = fire(&f.db, 10).await;
            assert!(are(&due, &[&one]), "{due:?}");
            drop(tx);
        }
    }

    async fn arming_again_changes_nothing_and_disarming_comes_first(f: &Fixture) {
        let saga = SagaId::random();
        commit(&f.db, arm(&[&timer(saga, "a", HOUR)])).await;
        commit(&f.db, arm(&[&timer(saga, "a", 7 * HOUR)])).await;
        assert_eq!(hours_left(&f.db).await, Some(1));
        commit(&f.db, Changes { disarm: vec![Disarm::waits(saga)], ..arm(&[&timer(saga, "a", 8 * HOUR)]) }).await;
        assert_eq!(hours_left(&f.db).await, Some(8));
        commit(&f.db, Changes { disarm: vec![Disarm::waits(saga)], ..Changes::default() }).await;
        assert_eq!(hours_left(&f.db).await, None);
    }

    async fn a_step_has_one_timer_of_each_kind_and_an_action_disarms_only_those_that_wait_for_it(f: &Fixture) {
        let (saga, other) = (SagaId::random(), SagaId::random());
        let of = |saga, step, kind, hours| Timer { kind, ..timer(saga, step, hours * HOUR) };
        let all = |saga| TimerKind::ALL.map(|kind| of(saga, "a", kind, 5 - kind as u32));
        commit(&f.db, arm(&all(saga).iter().chain(&all(other)).collect::<Vec<_>>())).await;
        assert_eq!(f.db.summary().await.unwrap().timers, 6);
        commit(&f.db, Changes { disarm: vec![Disarm::waits(saga)], ..Changes::default() }).await;
        assert_eq!(f.db.summary().await.unwrap().timers, 5);
        assert_eq!(hours_left(&f.db).await, Some(3), "the wait until the end of the saga");
        let arrivals = vec![Disarm::one(saga, "b", TimerKind::Arrivals), Disarm::one(other, "a", TimerKind::Arrivals)];
        commit(&f.db, Changes { disarm: arrivals, ..Changes::default() }).await;
        assert_eq!(f.db.summary().await.unwrap().timers, 4, "another step's timer stays");
        commit(&f.db, Changes { disarm: vec![Disarm::all(saga), Disarm::waits(other)], ..Changes::default() }).await;
        assert_eq!(f.db.summary().await.unwrap().timers, 1, "that of the other saga's end");
    }

    async fn timers_of_one_step_are_told_apart_when_they_are_due_and_when_they_are_postponed(f: &Fixture) {
        let saga = SagaId::random();
        let timers = TimerKind::ALL.map(|kind| Timer { kind, ..timer(saga, "a", NOW) });
        for timer in &timers {
            commit(&f.db, arm(&[timer])).await;
        }
        let (tx, due) = fire(&f.db, 10).await;
        let kinds = |due: &[DueTimer]| due.iter().map(|timer| timer.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&due), TimerKind::ALL);
        drop(tx);
        f.db.mark_sent(&[]).await.unwrap();
        f.db.postpone(&due[..2], HOUR).await.unwrap();
        let (tx, due) = fire(&f.db, 10).await;
        assert_eq!(kinds(&due), [TimerKind::Saga]);
        f.db.commit(tx, Changes::default()).await.unwrap();
        assert_eq!(f.db.summary().await.unwrap().timers, 2);
    }

    async fn a_saga_that_has_ended_is_not_waited_for_until_its_end(f: &Fixture) {
        let saga = SagaId::random();
        commit(&f.db, Changes { ended: vec![Progress { saga_id: saga, at: at(0) }], ..Changes::default() }).await;
        let timers = TimerKind::ALL.map(|kind| Timer { kind, ..timer(saga, "a", NOW) });
        commit(&f.db, arm(&timers.iter().collect::<Vec<_>>())).await;
        let (_tx, due) = fire(&f.db, 10).await;
        let kinds: Vec<_> = due.iter().map(|timer| timer.kind).collect();
        assert_eq!(kinds, [TimerKind::Step]);
    }

    async fn a_wait_that_never_ends_can_be_armed(f: &Fixture) {
        commit(&f.db, arm(&[&timer(SagaId::random(), "a", Duration::MAX)])).await;
        assert!(hours_left(&f.db).await > Some(24 * 365));
        assert_eq!(fire(&f.db, 10).await.1, []);
    }
}
