//! Durable timers.

use saga_core::{
    event::SagaId,
    store::{Changes, DueTimer, Store, Timer},
    trace::TraceContext,
};

use crate::support::{at, commit};

fn timer(saga_id: SagaId, step: &'static str, due: i64) -> Timer {
    let trace = TraceContext { traceparent: Some("00-1-2-01".into()), tracestate: (due > 5).then(|| "a=b".into()) };
    Timer { saga_id, step, due: at(due), trace }
}

fn fired(timer: &Timer) -> DueTimer {
    DueTimer { saga_id: timer.saga_id, step: timer.step.into(), due: timer.due, trace: timer.trace.clone() }
}

fn arm(timers: &[&Timer]) -> Changes {
    Changes { arm: timers.iter().map(|timer| (*timer).clone()).collect(), ..Changes::default() }
}

on_both! {
    async fn due_timers_are_taken_oldest_first_and_once(f: &Fixture) {
        let (early, late) = (timer(SagaId::random(), "a", 1), timer(SagaId::random(), "a", 9));
        let later = timer(late.saga_id, "b", 10);
        commit(&f.db, arm(&[&later, &late, &early])).await;
        assert_eq!(f.db.next_due().await.unwrap(), Some(at(1)));
        assert_eq!(f.db.summary().await.unwrap().timers, 3);
        let (tx, due) = f.db.begin_due(at(9), 10).await.unwrap();
        assert_eq!(due, [fired(&early), fired(&late)]);
        f.db.commit(tx, Changes::default()).await.unwrap();
        assert_eq!(f.db.next_due().await.unwrap(), Some(at(10)));
        let (_tx, due) = f.db.begin_due(at(9), 10).await.unwrap();
        assert_eq!(due, []);
    }

    async fn the_limit_takes_the_oldest(f: &Fixture) {
        let timers = [3, 1, 2].map(|due| timer(SagaId::random(), "a", due));
        commit(&f.db, arm(&timers.each_ref())).await;
        let (tx, due) = f.db.begin_due(at(9), 2).await.unwrap();
        assert_eq!(due, [fired(&timers[1]), fired(&timers[2])]);
        f.db.commit(tx, Changes::default()).await.unwrap();
    }

    async fn a_rollback_leaves_timers_armed(f: &Fixture) {
        let one = timer(SagaId::random(), "a", 1);
        commit(&f.db, arm(&[&one])).await;
        for _ in 0..2 {
            let (tx, due) = f.db.begin_due(at(5), 10).await.unwrap();
            assert_eq!(due, [fired(&one)]);
            drop(tx);
        }
    }

    async fn arming_again_changes_nothing_and_disarming_comes_first(f: &Fixture) {
        let saga = SagaId::random();
        commit(&f.db, arm(&[&timer(saga, "a", 1)])).await;
        commit(&f.db, arm(&[&timer(saga, "a", 7)])).await;
        assert_eq!(f.db.next_due().await.unwrap(), Some(at(1)));
        commit(&f.db, Changes { disarm: vec![saga], ..arm(&[&timer(saga, "a", 8)]) }).await;
        assert_eq!(f.db.next_due().await.unwrap(), Some(at(8)));
        commit(&f.db, Changes { disarm: vec![saga], ..Changes::default() }).await;
        assert_eq!(f.db.next_due().await.unwrap(), None);
    }
}
