//! Steps that run in rounds: the barrier knows which round is due, and what waits for its next round stands aside in its
//! saga's queue.

use std::time::Duration;

use saga_core::{
    Event, Never, Outcome, Participant, Rounds, Step, StepResult,
    barrier::{Before, Mark, Op, Skip, Verdict, decide_round},
    clock::SystemClock,
    envelope::{Outgoing, seal},
    event::{EventType, SagaId},
    graph::Triggers,
    handler::Cx,
    runtime::{Handle, Options, Runtime},
    store::{Admission, Changes, MarkChange, ParkChange, ParkedAt, Parking, Phase, Store, StoreError},
    testing::MemoryBroker,
    trace::TraceContext,
};
use saga_store::{Db, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::support::{STEP, admission, append, at, begin, commit, hours_left, marked, marks, parking, run};

const HOUR: Duration = Duration::from_secs(3600);

fn enters(saga_id: SagaId, mark: Mark, round: u32, effect_key: Option<Uuid>) -> MarkChange {
    MarkChange { saga_id, step: STEP, op: Op::Action, mark, effect_key, round: Some(round) }
}

/// Stands aside until its round 1.
fn aside(saga: SagaId, event_id: &str, offset: i64, pause: Duration) -> Parking {
    Parking { aside: true, round: 1, attempts: 0, failed_at: None, pause, ..parking(saga, event_id, offset) }
}

async fn park(db: &Db, park: Vec<ParkChange>) {
    commit(db, Changes { park, ..Changes::default() }).await;
}

fn place(saga_id: SagaId, seq: i64, round: u32) -> ParkedAt {
    ParkedAt { saga_id, seq, op: Op::Action, round: Some(round) }
}

/// Position, offset and round of what is due.
async fn claim(db: &Db) -> Vec<(i64, i64, u32)> {
    let claimed = db.claim_parked(HOUR, 10, &[]).await.unwrap();
    claimed.into_iter().map(|event| (event.seq, event.record.offset, event.round)).collect()
}

/// The first round of this event, whose checkpoint is committed. Returns its admission.
async fn checkpoint(db: &Db, saga: SagaId, key: Option<Uuid>) -> Admission {
    let phase = if key.is_some() { Phase::Start } else { Phase::Whole };
    let first = Admission { effect_key: key, ..admission(saga, Op::Action, phase) };
    let (tx, _) = begin(db, &first).await;
    let parked = Parking { cause: first.cause.id, ..aside(saga, "e", 0, Duration::ZERO) };
    let changes = Changes {
        marks: vec![enters(saga, Mark::Again, 1, None)],
        park: vec![ParkChange::Append(parked)],
        ..Changes::default()
    };
    db.commit(tx, changes).await.unwrap();
    first
}

fn verdict(admission: &Admission, round: u32, before: &Before) -> Verdict {
    decide_round(admission.op, &admission.cause, round, before, &Triggers::default())
}

on_both! {
    async fn the_barrier_knows_which_round_is_due(f: &Fixture) {
        let (saga, key) = (SagaId::random(), Uuid::new_v4());
        let first = checkpoint(&f.db, saga, Some(key)).await;
        let due = Admission { phase: Phase::Start, from_parked: true, ..first.clone() };
        let (tx, before) = begin(&f.db, &due).await;
        let row = before.action.clone().unwrap();
        assert_eq!((row.mark, row.round, row.effect_key), (Mark::Again, 1, Some(key)));
        assert_eq!(verdict(&due, 1, &before), Verdict::Run);
        assert_eq!(verdict(&due, 0, &before), Verdict::Skip(Skip::Duplicate));
        let next = Uuid::new_v4();
        let changes = Changes { marks: vec![enters(saga, Mark::Started, 1, Some(next))], ..Changes::default() };
        f.db.commit(tx, changes).await.unwrap();

        let finish = Admission { phase: Phase::Finish, ..due.clone() };
        let (tx, before) = begin(&f.db, &finish).await;
        let row = before.action.clone().unwrap();
        assert_eq!((row.mark, row.round, row.effect_key), (Mark::Started, 1, Some(next)));
        // A second round, whose answer is lost: it must not run again as the first.
        f.db.commit(tx, Changes { marks: vec![enters(saga, Mark::Again, 2, None)], ..Changes::default() }).await.unwrap();
        let (tx, before) = begin(&f.db, &finish).await;
        assert_eq!(verdict(&finish, 1, &before), Verdict::Skip(Skip::Duplicate));
        assert_eq!(before.action.clone().unwrap().effect_key, Some(next), "the call that a compensation reverses");
        drop(tx);
        let (tx, _) = begin(&f.db, &finish).await;
        f.db.commit(tx, marked(saga, Op::Action, Mark::Done)).await.unwrap();
        let (_tx, before) = begin(&f.db, &first).await;
        assert_eq!(verdict(&first, 0, &before), Verdict::Skip(Skip::Duplicate));
    }

    async fn what_stands_aside_parks_no_saga_and_is_due_at_its_time(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, vec![ParkChange::Append(aside(saga, "e", 0, 2 * HOUR))]).await;
        assert_eq!(hours_left(&f.db).await, Some(2));
        let summary = f.db.summary().await.unwrap();
        assert_eq!((summary.parked_sagas, summary.blocked_sagas, summary.parked_oldest), (0, 0, None));
        let other = Admission { step: "pack", ..admission(saga, Op::Action, Phase::Whole) };
        let (tx, before) = begin(&f.db, &other).await;
        assert_eq!(before, Before::default());
        // It fails, and becomes the head of a queue of its own.
        let failed = Parking { step: "pack", pause: HOUR, ..parking(saga, "other", 1) };
        f.db.commit(tx, Changes { park: vec![ParkChange::Append(failed)], ..Changes::default() }).await.unwrap();
        assert_eq!(hours_left(&f.db).await, Some(1));
        assert_eq!(run(&f.db, saga, Op::Action, Phase::Whole).await, Verdict::Queue);
        assert_eq!(f.db.summary().await.unwrap().parked_sagas, 1);
    }

    async fn a_round_is_claimed_and_asks_for_the_next(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, vec![ParkChange::Append(aside(saga, "e", 0, Duration::ZERO))]).await;
        let (seq, _, round) = claim(&f.db).await[0];
        assert_eq!(round, 1);
        assert_eq!(claim(&f.db).await, [], "it is leased");
        park(&f.db, vec![ParkChange::Again { at: place(saga, seq, 1), round: 2, pause: Duration::ZERO }]).await;
        assert_eq!(claim(&f.db).await, [(seq, 0, 2)]);
        // It fails once: another attempt at the same round, still aside, and visible as parked.
        let (failed_at, reason) = (at(3), "busy".to_owned());
        let retry = ParkChange::Retry { at: place(saga, seq, 2), attempts: 1, pause: Duration::ZERO, failed_at, reason };
        park(&f.db, vec![retry]).await;
        let summary = f.db.summary().await.unwrap();
        assert_eq!((summary.parked_sagas, summary.parked_oldest), (1, Some(at(3))));
        assert_ne!(run(&f.db, saga, Op::Action, Phase::Whole).await, Verdict::Queue);
        assert_eq!(claim(&f.db).await, [(seq, 0, 2)]);
        park(&f.db, vec![ParkChange::Again { at: place(saga, seq, 2), round: 3, pause: HOUR }]).await;
        assert_eq!(f.db.summary().await.unwrap().parked_sagas, 0, "the next round has not failed");
    }

    async fn changes_of_a_round_that_is_over_have_no_effect(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, vec![ParkChange::Append(aside(saga, "e", 0, Duration::ZERO))]).await;
        let (seq, ..) = claim(&f.db).await[0];
        park(&f.db, vec![ParkChange::Again { at: place(saga, seq, 1), round: 2, pause: Duration::ZERO }]).await;
        let at_1 = || place(saga, seq, 1);
        let late = [
            ParkChange::Remove { at: at_1() },
            ParkChange::Block { at: at_1(), reason: "late".into() },
            ParkChange::Again { at: at_1(), round: 2, pause: 9 * HOUR },
            ParkChange::Retry { at: at_1(), attempts: 5, pause: 9 * HOUR, failed_at: at(0), reason: "late".into() },
        ];
        for change in late {
            park(&f.db, vec![change]).await;
        }
        assert_eq!(claim(&f.db).await, [(seq, 0, 2)]);
        park(&f.db, vec![ParkChange::Remove { at: place(saga, seq, 2) }]).await;
        assert_eq!(hours_left(&f.db).await, None);
    }

    async fn a_parked_head_that_steps_aside_lets_the_next_event_go_on(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, vec![append(saga, "a", 0), append(saga, "b", 1), append(saga, "c", 2)]).await;
        let (seq, _, round) = claim(&f.db).await[0];
        assert_eq!(round, 0);
        park(&f.db, vec![ParkChange::Again { at: place(saga, seq, 0), round: 1, pause: 5 * HOUR }]).await;
        let (next, offset, _) = claim(&f.db).await[0];
        assert_eq!(offset, 1);
        park(&f.db, vec![ParkChange::Remove { at: place(saga, next, 0) }]).await;
        let (next, offset, _) = claim(&f.db).await[0];
        assert_eq!(offset, 2);
        park(&f.db, vec![ParkChange::Remove { at: place(saga, next, 0) }]).await;
        assert_eq!(hours_left(&f.db).await, Some(5));
    }

    async fn a_round_that_is_dead_lettered_blocks_its_saga_and_a_replay_keeps_its_round(f: &Fixture) {
        let saga = SagaId::random();
        park(&f.db, vec![ParkChange::Append(aside(saga, "e", 0, Duration::ZERO))]).await;
        let mended = |offset| ParkChange::Append(Parking { failed_at: None, ..parking(saga, "e", offset) });
        park(&f.db, vec![mended(5)]).await;
        let (seq, offset, round) = claim(&f.db).await[0];
        assert_eq!((offset, round), (0, 1), "what waits for its round is not replaced");
        park(&f.db, vec![ParkChange::Block { at: place(saga, seq, 1), reason: "used up".into() }]).await;
        assert_eq!(f.db.summary().await.unwrap().blocked_sagas, 1);
        assert_eq!(run(&f.db, saga, Op::Action, Phase::Whole).await, Verdict::Queue);
        park(&f.db, vec![append(saga, "behind", 9)]).await;
        assert_eq!(claim(&f.db).await, []);
        park(&f.db, vec![mended(6)]).await;
        assert_eq!(claim(&f.db).await, [(seq, 6, 1)]);
        park(&f.db, vec![ParkChange::Again { at: place(saga, seq, 1), round: 2, pause: HOUR }]).await;
        assert_eq!(claim(&f.db).await.iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [9]);
    }

    async fn a_compensation_takes_the_place_of_the_round_that_waits(f: &Fixture) {
        let saga = SagaId::random();
        checkpoint(&f.db, saga, None).await;
        let (seq, ..) = claim(&f.db).await[0];
        let undo = admission(saga, Op::Compensate, Phase::Start);
        let (tx, before) = begin(&f.db, &undo).await;
        assert_eq!((marks(&before), before.parked, before.overtakes), ((Some(Mark::Again), None), false, Some(seq)));
        assert_eq!(verdict(&undo, 0, &before), Verdict::Run);
        let by = Parking { op: Op::Compensate, cause: undo.cause.id, pause: HOUR, ..parking(saga, "undo", 7) };
        f.db.commit(tx, Changes { park: vec![ParkChange::Overtake { seq, by }], ..Changes::default() }).await.unwrap();
        // The round is late: it changes nothing, and other events wait behind the compensation.
        let late = Admission { from_parked: true, ..admission(saga, Op::Action, Phase::Whole) };
        let (tx, before) = begin(&f.db, &late).await;
        assert_eq!(verdict(&late, 1, &before), Verdict::Skip(Skip::Late));
        let remove = ParkChange::Remove { at: place(saga, seq, 1) };
        f.db.commit(tx, Changes { park: vec![remove], ..Changes::default() }).await.unwrap();
        assert_eq!(hours_left(&f.db).await, Some(1));
        let other = Admission { step: "pack", ..admission(saga, Op::Action, Phase::Whole) };
        assert!(begin(&f.db, &other).await.1.parked);
    }

    async fn a_participant_runs_its_rounds_and_a_killed_process_leaves_the_next_one_to_another(f: &Fixture) {
        rounds_on(f).await;
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "parcel.sent", topic = "parcel.events", saga = "id")]
struct Sent {
    id: Uuid,
}
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "parcel.scanned", topic = "parcel.events", saga = "id")]
struct Scanned {
    id: Uuid,
}
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "track.arrived", topic = "track.events", saga = "id")]
struct Arrived {
    id: Uuid,
}

/// Looks for the scan in each round; what it does is one row of `stock` a round, whose key it would break by running twice.
async fn look(cx: &mut Cx<'_, Db>, parcel: Sent) -> StepResult<Arrived> {
    let round = i64::from(cx.round());
    let seen = format!("{}/{round}", parcel.id);
    cx.tx().execute("INSERT INTO stock (sku, available) VALUES ($1, $2)", params![seen.as_str(), round]).await?;
    let scanned = format!("{}/scan", parcel.id);
    let found = cx.tx().query_opt("SELECT sku FROM stock WHERE sku = $1", params![scanned.as_str()]).await?;
    Ok(match found {
        Some(_) => Outcome::Success(Arrived { id: parcel.id }),
        None => Outcome::Again { after: Duration::from_millis(30) },
    })
}

async fn scan(cx: &mut Cx<'_, Db>, parcel: Scanned) -> StepResult<Never> {
    let scanned = format!("{}/scan", parcel.id);
    cx.tx().execute("INSERT INTO stock (sku, available) VALUES ($1, 1)", params![scanned.as_str()]).await?;
    Ok(Outcome::Quiet)
}

fn publish<E: Event>(broker: &MemoryBroker, event: &E) {
    let outgoing = Outgoing {
        id: Uuid::now_v7(),
        source: "shop",
        saga_id: Event::saga_id(event),
        causation_id: None,
        time: jiff::Timestamp::now(),
        trace: &TraceContext::default(),
        null_compensation: false,
    };
    broker.append(seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap(), &outgoing));
}

async fn rounds_on(f: &crate::support::Fixture) {
    let (broker, parcel) = (MemoryBroker::new(1), Uuid::now_v7());
    let looked = async || {
        let sql = "SELECT count(*) FROM stock WHERE sku LIKE $1";
        let row = f.db.query_opt(sql, params![format!("{parcel}/%").as_str()]).await.unwrap().unwrap();
        row.get::<i64>(0).unwrap()
    };
    publish(&broker, &Sent { id: parcel });
    for killed_after in [2, 4, i64::MAX] {
        let track = Participant::named("track")
            .step(Step::new("look", look).again(Rounds::at_most(10_000)))
            .step(Step::new("scan", scan));
        let handle = Handle::new("track", f.another().await, broker.producer(), SystemClock);
        let consumer = broker.subscribe("track", &["parcel.events".to_owned()]);
        let run = Runtime::new(track, handle, Options::default()).run(consumer, std::future::pending());
        let over = async {
            if killed_after == i64::MAX {
                publish(&broker, &Scanned { id: parcel });
            }
            while looked().await < killed_after && broker.records("track.events").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let over = tokio::time::timeout(Duration::from_secs(60), over);
        tokio::select! {
            result = run => panic!("{result:?}"),
            over = over => over.unwrap(),
        }
    }
    assert_eq!(broker.records("track.events").len(), 1);
    assert_eq!(broker.records("track.dlq"), []);
}

/// The same record is handled in a second process while the transaction of its first round is open: it waits there, and learns that
/// the round is committed.
#[tokio::test]
async fn an_event_whose_round_is_in_flight_in_another_process_is_not_parked_as_its_first_round() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    let (other, saga) = (f.another().await, SagaId::random());
    let first = Admission { rounds: true, ..admission(saga, Op::Action, Phase::Whole) };
    let (tx, _) = begin(&f.db, &first).await;
    // It waits for the row longer than its lock timeout, and is then to be parked.
    let park = Admission { phase: Phase::Recheck, from_parked: true, ..first.clone() };
    for admission in [&first, &park] {
        let locked = other.begin(std::slice::from_ref(admission), Duration::from_millis(100)).await.err();
        assert!(matches!(locked, Some(StoreError::Locked(_))), "{locked:?}");
    }
    let next = Parking { cause: first.cause.id, ..aside(saga, "e", 0, Duration::ZERO) };
    let park_round = vec![ParkChange::Append(next)];
    let changes = Changes { marks: vec![enters(saga, Mark::Again, 1, None)], park: park_round, ..Changes::default() };
    f.db.commit(tx, changes).await.unwrap();
    let (tx, before) = begin(&other, &park).await;
    assert_eq!(verdict(&park, 0, &before), Verdict::Skip(Skip::Duplicate));
    drop(tx);
    let claimed = claim(&f.db).await;
    let due = Admission { from_parked: true, ..first };
    let (_tx, before) = begin(&f.db, &due).await;
    assert_eq!((claimed.len(), claimed[0].2, verdict(&due, 1, &before)), (1, 1, Verdict::Run));
}
