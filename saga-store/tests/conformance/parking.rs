//! Parked sagas: queues in order, leases, holds.

use std::time::{Duration, Instant};

use saga_core::{
    barrier::{Op, Verdict},
    event::SagaId,
    record::Record,
    store::{Changes, ParkChange, ParkedAt, Parking, Phase, Store, Summary},
};
use saga_store::Db;

use crate::support::{STEP, append, at, commit, hours_left, parking, record, run};

const HOUR: Duration = Duration::from_secs(3600);

async fn park(db: &Db, change: ParkChange) {
    commit(db, Changes { park: vec![change], ..Changes::default() }).await;
}

fn place(saga_id: SagaId, seq: i64) -> ParkedAt {
    ParkedAt { saga_id, seq, op: Op::Action, round: None }
}

/// The offsets of the heads that are due, which name the events.
async fn claim(db: &Db) -> Vec<(i64, i64)> {
    let claimed = db.claim_parked(HOUR, 10, &[]).await.unwrap();
    claimed.into_iter().map(|event| (event.seq, event.record.offset)).collect()
}

/// The change, with a head that is due after this time only.
fn after(pause: Duration, mut change: ParkChange) -> ParkChange {
    if let ParkChange::Append(Parking { pause: at_once, .. }) = &mut change {
        *at_once = pause;
    }
    change
}

on_both! {
    async fn a_parked_event_comes_back_as_it_was(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, append(saga, "e1", 5)).await;
        let claimed = f.db.claim_parked(HOUR, 10, &[]).await.unwrap();
        assert_eq!(claimed[0].saga_id, saga);
        assert_eq!(claimed[0].record, record(saga, 5));
        assert_eq!((claimed[0].attempts, claimed[0].failed_at), (1, Some(at(0))));
    }

    async fn a_queue_is_worked_off_in_order_from_its_head(f: &Fixture) {
        let saga = SagaId::random();
        for (i, name) in ["first", "second", "third"].into_iter().enumerate() {
            park(&f.db, append(saga, name, i as i64)).await;
        }
        park(&f.db, append(saga, "second", 1)).await;
        for offset in 0..3 {
            let claimed = claim(&f.db).await;
            assert_eq!(claimed.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [offset]);
            assert_eq!(claim(&f.db).await, [], "what is leased is not given to anybody else");
            park(&f.db, ParkChange::Remove { at: place(saga, claimed[0].0) }).await;
        }
        assert_eq!(claim(&f.db).await, []);
        assert_eq!(run(&f.db, saga, Op::Action, Phase::Whole).await, Verdict::Run);
    }

    async fn a_head_is_not_due_before_its_time(f: &Fixture) {
        park(&f.db, after(2 * HOUR, append(SagaId::random(), "e", 0))).await;
        assert_eq!(hours_left(&f.db).await, Some(2));
        assert_eq!(claim(&f.db).await, []);
    }

    async fn a_lease_that_runs_out_makes_the_head_due_again(f: &Fixture) {
        park(&f.db, append(SagaId::random(), "e", 0)).await;
        let (lease, began) = (Duration::from_millis(50), Instant::now());
        assert_eq!(f.db.claim_parked(lease, 10, &[]).await.unwrap().len(), 1);
        while claim(&f.db).await.is_empty() {}
        assert!(began.elapsed() >= lease, "{:?}", began.elapsed());
        assert_eq!(hours_left(&f.db).await, Some(1));
    }

    async fn a_failed_retry_waits_for_its_time(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, append(saga, "e", 0)).await;
        let (seq, _) = claim(&f.db).await[0];
        let retry = |pause, reason: &str| {
            let (failed_at, reason) = (at(2), reason.to_owned());
            ParkChange::Retry { at: place(saga, seq), attempts: 7, pause, failed_at, reason }
        };
        park(&f.db, retry(3 * HOUR, "again \0")).await;
        assert_eq!(claim(&f.db).await, []);
        assert_eq!(hours_left(&f.db).await, Some(3));
        park(&f.db, retry(Duration::ZERO, "and again")).await;
        let claimed = f.db.claim_parked(HOUR, 10, &[]).await.unwrap();
        assert_eq!((claimed[0].attempts, claimed[0].failed_at), (7, Some(at(2))));
    }

    async fn a_held_head_holds_its_saga_and_no_other(f: &Fixture) {
        let (held, other) = (SagaId::random(), SagaId::random());
        let saga = held;
        park(&f.db, append(held, "a", 0)).await;
        park(&f.db, append(held, "b", 0)).await;
        let (seq, _) = claim(&f.db).await[0];
        park(&f.db, ParkChange::Block { at: place(saga, seq), reason: "given up".into() }).await;
        let reason = "too late".to_owned();
        park(&f.db, ParkChange::Retry { at: place(saga, seq), attempts: 2, pause: Duration::ZERO, failed_at: at(0), reason }).await;
        let mut later = after(2 * HOUR, append(other, "c", 7));
        if let ParkChange::Append(Parking { failed_at, .. }) = &mut later {
            *failed_at = Some(at(3));
        }
        park(&f.db, later).await;
        assert_eq!(hours_left(&f.db).await, Some(2));
        assert_eq!(claim(&f.db).await, []);
        assert_eq!(run(&f.db, held, Op::Action, Phase::Whole).await, Verdict::Queue);
        let summary = f.db.summary().await.unwrap();
        assert_eq!(
            summary,
            Summary { parked_sagas: 1, blocked_sagas: 1, parked_oldest: Some(at(3)), at: summary.at, ..Summary::default() }
        );
        // An operator releases it.
        park(&f.db, ParkChange::Remove { at: place(saga, seq) }).await;
        assert_eq!(claim(&f.db).await.len(), 1);
    }

    async fn a_redelivery_of_a_parked_event_changes_nothing(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, append(saga, "dead", 0)).await;
        let (seq, _) = claim(&f.db).await[0];
        park(&f.db, append(saga, "dead", 0)).await;
        assert_eq!(claim(&f.db).await, [], "it stays leased");
        park(&f.db, ParkChange::Block { at: place(saga, seq), reason: "given up".into() }).await;
        park(&f.db, append(saga, "dead", 0)).await;
        assert_eq!(claim(&f.db).await, [], "it stays held");
    }

    async fn a_parked_event_that_is_published_once_more_is_replaced_and_due_again(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, append(saga, "dead", 0)).await;
        park(&f.db, append(saga, "behind", 1)).await;
        let (seq, _) = claim(&f.db).await[0];
        park(&f.db, ParkChange::Block { at: place(saga, seq), reason: "given up".into() }).await;
        let again = |name, offset, value: &[u8]| {
            let mended = Record { value: Some(value.to_vec()), ..record(saga, offset) };
            ParkChange::Append(Parking { record: mended, attempts: 0, failed_at: None, ..parking(saga, name, 5) })
        };
        park(&f.db, again("behind", 8, b"later")).await;
        assert_eq!(claim(&f.db).await, [], "what is not the head stays behind it");
        park(&f.db, again("dead", 7, b"mended")).await;
        let claimed = f.db.claim_parked(HOUR, 10, &[]).await.unwrap();
        let found: Vec<_> = claimed.iter().map(|event| (event.seq, event.attempts, event.record.value.clone())).collect();
        assert_eq!(found, [(seq, 0, Some(b"mended".to_vec()))]);
        park(&f.db, ParkChange::Remove { at: place(saga, seq) }).await;
        let claimed = f.db.claim_parked(HOUR, 10, &[]).await.unwrap();
        assert_eq!(claimed[0].record.value.as_deref(), Some(b"later".as_slice()));
    }

    async fn a_compensation_takes_the_place_of_its_action(f: &Fixture) {
        for own in [false, true] {
            let saga = SagaId::random();
            let undo = |due| Parking { op: Op::Compensate, ..parking(saga, "undo", due) };
            park(&f.db, append(saga, "action", 0)).await;
            park(&f.db, ParkChange::Append(Parking { step: "pack", ..parking(saga, "other", 0) })).await;
            if own {
                park(&f.db, ParkChange::Append(undo(0))).await;
            }
            let (seq, _) = claim(&f.db).await[0];
            park(&f.db, ParkChange::Block { at: place(saga, seq), reason: "given up".into() }).await;
            park(&f.db, ParkChange::Overtake { seq, by: Parking { pause: HOUR, ..undo(5) } }).await;
            assert_eq!(claim(&f.db).await, [], "it is leased like any other");
            park(&f.db, ParkChange::Overtake { seq, by: undo(5) }).await;
            let soon = f.db.claim_parked(Duration::ZERO, 10, &[]).await.unwrap();
            assert_eq!(soon.iter().map(|event| (event.seq, event.record.offset)).collect::<Vec<_>>(), [(seq, 5)]);
            // What the action's own process still wants with its place concerns the compensation no more.
            park(&f.db, ParkChange::Remove { at: place(saga, seq) }).await;
            park(&f.db, ParkChange::Block { at: place(saga, seq), reason: "given up".into() }).await;
            assert_eq!(claim(&f.db).await, [(seq, 5)]);
            park(&f.db, ParkChange::Remove { at: ParkedAt { op: Op::Compensate, ..place(saga, seq) } }).await;
            let next = claim(&f.db).await;
            assert_eq!(next.len(), 1, "what stood behind it is the head now");
            park(&f.db, ParkChange::Remove { at: place(saga, next[0].0) }).await;
            assert_eq!(hours_left(&f.db).await, None, "and nothing is there twice");
        }
    }

    async fn a_compensation_that_has_overtaken_and_comes_again_does_not_fall_back_behind_a_blocked_head(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, ParkChange::Append(Parking { blocked: true, step: "pack", ..parking(saga, "dead", 0) })).await;
        park(&f.db, append(saga, "action", 1)).await;
        let seq = f.db.query_opt("SELECT max(seq) FROM saga_parked", []).await.unwrap().unwrap().get(0).unwrap();
        let undo = |offset| Parking { op: Op::Compensate, ..parking(saga, "undo", offset) };
        park(&f.db, ParkChange::Overtake { seq, by: Parking { pause: HOUR, ..undo(5) } }).await;
        park(&f.db, ParkChange::Append(undo(6))).await;
        assert_eq!(claim(&f.db).await, [(seq, 6)]);
    }

    async fn a_place_that_somebody_removed_is_made_again_by_who_takes_it_over(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, append(saga, "action", 0)).await;
        let (seq, _) = claim(&f.db).await[0];
        park(&f.db, ParkChange::Remove { at: place(saga, seq) }).await;
        let by = Parking { op: Op::Compensate, ..parking(saga, "undo", 5) };
        park(&f.db, ParkChange::Overtake { seq, by }).await;
        assert_eq!(claim(&f.db).await, [(seq, 5)]);
    }

    async fn an_action_and_its_compensation_that_leave_together_make_the_next_event_the_head_once(f: &Fixture) {
        for held in [false, true] {
            let saga = SagaId::random();
            park(&f.db, append(saga, "action", 0)).await;
            park(&f.db, ParkChange::Append(Parking { step: "pack", blocked: held, ..parking(saga, "next", 1) })).await;
            park(&f.db, ParkChange::Append(Parking { op: Op::Compensate, ..parking(saga, "undo", 2) })).await;
            park(&f.db, ParkChange::Append(Parking { step: "ship", ..parking(saga, "last", 3) })).await;
            let (action, _) = claim(&f.db).await[0];
            let undo = ParkedAt { op: Op::Compensate, ..place(saga, action + 2) };
            let gone = [place(saga, action), undo].map(|at| ParkChange::Remove { at });
            commit(&f.db, Changes { park: gone.to_vec(), ..Changes::default() }).await;
            let next = place(saga, action + 1);
            assert_eq!(claim(&f.db).await, if held { vec![] } else { vec![(next.seq, 1)] });
            park(&f.db, ParkChange::Remove { at: next }).await;
            assert_eq!(claim(&f.db).await, [(action + 3, 3)]);
            park(&f.db, ParkChange::Remove { at: place(saga, action + 3) }).await;
        }
    }

    async fn changes_of_many_sagas_in_one_transaction_are_each_made(f: &Fixture) {
        let sagas: Vec<SagaId> = (0..40).map(|_| SagaId::random()).collect();
        let all = |name: &str| sagas.iter().zip(0..).map(|(saga, n)| append(*saga, name, n)).collect::<Vec<_>>();
        let both = Changes { park: [all("head"), all("behind")].concat(), ..Changes::default() };
        commit(&f.db, both).await;
        let mut claimed = f.db.claim_parked(HOUR, 100, &[]).await.unwrap();
        claimed.sort_by_key(|event| event.record.offset);
        assert_eq!(claimed.iter().map(|event| event.saga_id).collect::<Vec<_>>(), sagas, "one head of each");
        let changes = claimed.iter().map(|event| {
            let (n, failed_at) = (event.record.offset, at(event.record.offset));
            let (at, pause, reason) = (place(event.saga_id, event.seq), Duration::ZERO, n.to_string());
            match n % 4 {
                0 => ParkChange::Retry { at, attempts: 7, pause, failed_at, reason },
                1 => ParkChange::Block { at, reason },
                2 => ParkChange::Remove { at },
                // Of an event that has left its place.
                _ => ParkChange::Remove { at: ParkedAt { op: Op::Compensate, ..at } },
            }
        });
        commit(&f.db, Changes { park: changes.collect(), ..Changes::default() }).await;
        let mut again = f.db.claim_parked(HOUR, 100, &[]).await.unwrap();
        again.sort_by_key(|event| event.record.offset);
        for event in &again {
            let (n, head) = (event.record.offset, &claimed[event.record.offset as usize]);
            match n % 4 {
                0 => assert_eq!((event.seq, event.attempts, event.failed_at), (head.seq, 7, Some(at(n)))),
                2 => assert!(event.seq > head.seq, "the one behind it"),
                _ => panic!("{n} is not due"),
            }
        }
        assert_eq!((again.len(), f.db.summary().await.unwrap().blocked_sagas), (20, 10));
    }

    async fn changes_of_one_saga_in_one_transaction_are_made_in_their_order(f: &Fixture) {
        let saga = SagaId::random();
        let park = vec![append(saga, "a", 0), append(saga, "b", 1), append(saga, "b", 2), append(saga, "a", 0)];
        commit(&f.db, Changes { park, ..Changes::default() }).await;
        let head = claim(&f.db).await;
        assert_eq!(head.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [0], "one of them is the head");
        let park = vec![ParkChange::Remove { at: place(saga, head[0].0) }, append(saga, "c", 3)];
        commit(&f.db, Changes { park, ..Changes::default() }).await;
        let head = claim(&f.db).await;
        assert_eq!(head.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [2], "what it said last counts");
    }

    async fn an_event_can_be_parked_as_blocked(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, ParkChange::Append(Parking { blocked: true, ..parking(saga, "e", 0) })).await;
        park(&f.db, append(saga, "behind", 0)).await;
        assert_eq!(claim(&f.db).await, []);
        assert_eq!(hours_left(&f.db).await, None);
        assert_eq!(f.db.summary().await.unwrap().blocked_sagas, 1);
    }

    async fn events_of_a_step_at_rest_stay_where_they_are(f: &Fixture) {
        let (resting, other) = (parking(SagaId::random(), "e", 0), parking(SagaId::random(), "e", 1));
        let other = Parking { step: "ship", ..other };
        let tried = Parking { op: Op::Compensate, ..parking(SagaId::random(), "e", 2) };
        // It may have nothing to undo.
        let untried = Parking { op: Op::Compensate, failed_at: None, ..parking(SagaId::random(), "e", 3) };
        for parking in [resting, other, tried, untried] {
            park(&f.db, ParkChange::Append(parking)).await;
        }
        let offsets = async |resting: &[&str]| -> Vec<i64> {
            let claimed = f.db.claim_parked(HOUR, 10, resting).await.unwrap();
            claimed.into_iter().map(|event| event.record.offset).collect()
        };
        assert_eq!(offsets(&["pack", STEP]).await, [1, 3]);
        assert_eq!(offsets(&["pack"]).await, [0, 2], "and are there when it works again");
    }

    async fn a_claim_takes_no_more_than_its_limit_and_others_take_the_rest(f: &Fixture) {
        for i in 0..5 {
            park(&f.db, append(SagaId::random(), "e", i)).await;
        }
        let other = f.another().await;
        let (one, two) = futures::join!(
            f.db.claim_parked(HOUR, 3, &[]),
            other.claim_parked(HOUR, 3, &[])
        );
        let mut seqs: Vec<i64> = one.unwrap().into_iter().chain(two.unwrap()).map(|event| event.seq).collect();
        assert!(seqs.len() >= 3);
        seqs.extend(claim(&other).await.into_iter().map(|(seq, _)| seq));
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), 5, "each head is claimed once");
    }

    async fn an_event_appended_while_the_head_is_removed_is_never_forgotten(f: &Fixture) {
        let other = f.another().await;
        for _ in 0..50 {
            let saga = SagaId::random();
            park(&f.db, append(saga, "head", 0)).await;
            let (seq, _) = claim(&f.db).await[0];
            futures::join!(park(&f.db, ParkChange::Remove { at: place(saga, seq) }), park(&other, append(saga, "next", 0)));
            let claimed = claim(&f.db).await;
            assert_eq!(claimed.len(), 1, "the appended event is the head now");
            park(&f.db, ParkChange::Remove { at: place(saga, claimed[0].0) }).await;
        }
    }
}
