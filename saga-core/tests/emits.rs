//! What steps publish: one of several successes or refusals, several events at once, and what optional participants publish.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use common::events::events;
use saga_core::{
    Never, Outcome, Participant, Step, StepError, StepResult,
    envelope::header,
    graph::{Rule, SagaStatus},
    handler::{Call, Cx, Emit},
    runtime::{HandledLabel, OutcomeLabel},
    store::Store as _,
    testing::{Fault, Flow, MemoryStore, Published, Running},
};
use uuid::Uuid;

events! {
    Requested = "trip.requested" on "trip.events" { by: String }
    FlightWanted = "flight.wanted" on "trip.events" { to: String }
    HotelWanted = "hotel.wanted" on "trip.events" { nights: u32 }
    TrainWanted = "train.wanted" on "trip.events" { berth: bool }
    TooFar = "trip.too_far" on "trip.events" { km: u32 }
    SoldOut = "trip.sold_out" on "trip.events" {}
    FlightReserved = "flight.reserved" on "flight.events" { to: String }
    HotelReserved = "hotel.reserved" on "hotel.events" { nights: u32 }
    Completed = "trip.completed" on "trip.events" {}
    Noted = "trip.noted" on "trip.events" {}
}

/// The flight and the hotel at once, each with what it needs; or a train alone.
#[derive(Emit)]
enum Plan {
    Fly((FlightWanted, HotelWanted)),
    Train(TrainWanted),
}

#[derive(Emit)]
enum NoPlan {
    TooFar(TooFar),
    SoldOut(SoldOut),
}

fn fly(id: Uuid, hotel: Uuid) -> Outcome<Plan, NoPlan> {
    Outcome::Success(Plan::Fly((FlightWanted { id, to: "LIS".to_owned() }, HotelWanted { id: hotel, nights: 3 })))
}

async fn plan(cx: &mut Cx<'_, MemoryStore>, trip: Requested) -> StepResult<Plan, NoPlan> {
    let id = trip.id;
    let planned: u32 = cx.tx().get("planned").unwrap_or(0);
    cx.tx().put("planned", &(planned + 1));
    Ok(match trip.by.as_str() {
        "plane" => fly(id, id),
        "train" => Outcome::Success(Plan::Train(TrainWanted { id, berth: true })),
        "foot" => Outcome::Refused(NoPlan::TooFar(TooFar { id, km: 2300 })),
        "balloon" => Outcome::Refused(NoPlan::SoldOut(SoldOut { id })),
        "confusion" => fly(id, Uuid::nil()),
        _ => Outcome::Quiet,
    })
}

fn trip() -> Participant<MemoryStore> {
    Participant::named("trip").step(Step::new("plan", plan))
}

fn flight() -> Participant<MemoryStore> {
    async fn reserve(_: &mut Cx<'_, MemoryStore>, wanted: FlightWanted) -> StepResult<FlightReserved> {
        Ok(Outcome::Success(FlightReserved { id: wanted.id, to: wanted.to }))
    }
    Participant::named("flight").step(Step::new("reserve", reserve))
}

fn hotel() -> Participant<MemoryStore> {
    async fn reserve(_: &mut Cx<'_, MemoryStore>, wanted: HotelWanted) -> StepResult<HotelReserved> {
        Ok(Outcome::Success(HotelReserved { id: wanted.id, nights: wanted.nights }))
    }
    Participant::named("hotel").step(Step::new("reserve", reserve))
}

fn by(means: &str) -> Requested {
    Requested { id: Uuid::new_v4(), by: means.to_owned() }
}

fn types(published: &[Published]) -> Vec<&str> {
    published.iter().map(|event| event.event_type.as_str()).collect()
}

fn ids(published: &[Published]) -> BTreeSet<Vec<u8>> {
    let id = |event: &Published| event.record.headers.iter().find(|h| h.is(header::ID)).unwrap().value.clone().unwrap();
    published.iter().map(id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_choice_publishes_the_alternative_that_the_handler_chose() {
    Flow::of([trip()])
        .run(async |flow| {
            let published = flow.when(&by("train")).await;
            assert_eq!(types(&published), ["train.wanted"]);
            assert!(published[0].read::<TrainWanted>().unwrap().berth);
            assert_eq!(types(&flow.when(&by("plane")).await), ["flight.wanted", "hotel.wanted"]);
            let refused = flow.when(&by("foot")).await;
            assert_eq!(refused[0].read::<TooFar>().unwrap().km, 2300);
            assert_eq!(types(&flow.when(&by("balloon")).await), ["trip.sold_out"]);
            assert!(flow.when(&by("thought")).await.is_empty());
            let handled = |outcome| {
                let label = HandledLabel { step: "plan", op: "action", outcome };
                flow.metrics("trip").handled.get_or_create(&label).get()
            };
            assert_eq!((handled("success"), handled("refused"), handled("quiet")), (2, 2, 1));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_fork_gives_each_branch_its_own_data() {
    Flow::of([trip(), flight(), hotel()])
        .run(async |flow| {
            let trip = by("plane");
            let published = flow.when(&trip).await;
            let (flight, hotel) = (
                published.iter().find_map(Published::read::<FlightReserved>),
                published.iter().find_map(Published::read::<HotelReserved>),
            );
            assert_eq!((flight.unwrap().to.as_str(), hotel.unwrap().nights), ("LIS", 3));
            assert_eq!((published.len(), ids(&published).len()), (4, 4), "each has an id of its own");
            assert!(published.iter().all(|event| event.saga_id == trip.id.to_string()));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_fork_is_joined_by_a_step_that_publishes_several_events_again() {
    async fn book(
        _: &mut Cx<'_, MemoryStore>,
        (flight, hotel): (FlightReserved, HotelReserved),
    ) -> StepResult<(Completed, Noted)> {
        assert_eq!((flight.to.as_str(), hotel.nights), ("LIS", 3));
        Ok(Outcome::Success((Completed { id: flight.id }, Noted { id: hotel.id })))
    }
    Flow::of([trip().step(Step::new("book", book)), flight(), hotel()])
        .run(async |flow| {
            let published = flow.when(&by("plane")).await;
            assert_eq!(types(&published)[4..], ["trip.completed", "trip.noted"]);
            assert_eq!(ids(&published).len(), 6);
        })
        .await;
}

/// Everything that a request makes under these faults.
async fn under(faults: &[Fault], request: &Requested, cause: Uuid) -> Vec<Published> {
    let store = MemoryStore::default();
    Flow::on([(trip(), store.clone())])
        .run(async |flow: &Running<MemoryStore>| {
            store.inject(faults.iter().copied());
            let mut record = common::record(request, saga_core::testing::VirtualClock::start());
            for header in record.headers.iter_mut().filter(|h| h.is(header::ID)) {
                header.value = Some(cause.to_string().into_bytes());
            }
            let published = flow.when_record(record).await;
            assert_eq!(store.get::<u32>("planned").await, Some(1), "{faults:?}");
            assert_eq!(store.summary().await.unwrap().outbox_pending, 0, "{faults:?}");
            published
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_fault_at_the_commit_publishes_each_event_once_and_under_the_same_id() {
    let (request, cause) = (by("plane"), Uuid::now_v7());
    let expected = under(&[], &request, cause).await;
    for fault in [Fault::Commit, Fault::CommitAnswer, Fault::Deadlock] {
        let published = under(&[fault], &request, cause).await;
        assert_eq!(types(&published), ["flight.wanted", "hotel.wanted"], "{fault:?}");
        assert_eq!(ids(&published), ids(&expected), "{fault:?}");
        assert_eq!(ids(&published).len(), 2, "{fault:?}");
    }
}

/// Calls an outside system first, and forks with its answer.
fn asking(calls: &Arc<AtomicU32>) -> Participant<MemoryStore> {
    let calls = calls.clone();
    let ask = async move |_: &Call, _: &Requested| Ok(calls.fetch_add(1, Ordering::SeqCst) + 1);
    async fn plan(
        _: &mut Cx<'_, MemoryStore>,
        Requested { id, .. }: Requested,
        nights: u32,
    ) -> StepResult<(FlightWanted, HotelWanted)> {
        Ok(Outcome::Success((FlightWanted { id, to: "LIS".to_owned() }, HotelWanted { id, nights })))
    }
    Participant::named("trip").step(Step::with_effect("plan", ask, plan))
}

#[tokio::test(start_paused = true)]
async fn a_step_with_an_effect_publishes_each_of_its_events_once_whatever_commit_fails() {
    for faults in [&[Fault::Commit][..], &[Fault::CommitAnswer], &[Fault::CommitAnswer, Fault::CommitAnswer]] {
        let (store, calls) = (MemoryStore::default(), Arc::<AtomicU32>::default());
        Flow::on([(asking(&calls), store.clone())])
            .run(async |flow| {
                store.inject(faults.iter().copied());
                let published = flow.when(&by("plane")).await;
                assert_eq!(types(&published), ["flight.wanted", "hotel.wanted"], "{faults:?}");
                assert_eq!(calls.load(Ordering::SeqCst), 1, "{faults:?}");
                assert_eq!(published[1].read::<HotelWanted>().unwrap().nights, 1);
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_saga_among_several_is_dead_lettered_with_all_of_them() {
    Flow::of([trip()])
        .run(async |flow| {
            let published = flow.when(&by("confusion")).await;
            assert_eq!(types(&published), ["trip.requested"], "the dead letter alone");
            let letters = flow.dead_letters();
            assert_eq!(letters.len(), 1);
            let reason = letters[0].record.headers.iter().find(|h| h.is(saga_core::dead_letter::header::REASON));
            assert_eq!(reason.unwrap().value.as_deref(), Some(&b"permanent"[..]));
            assert_eq!(flow.store("trip").get::<u32>("planned").await, None, "nothing of it is committed");
        })
        .await;
}

/// Ends the saga, and says so to others at the same time.
fn closing() -> Participant<MemoryStore> {
    async fn register(_: &mut Cx<'_, MemoryStore>, _: Requested) -> StepResult<Never> {
        Ok(Outcome::Quiet)
    }
    async fn close(
        _: &mut Cx<'_, MemoryStore>,
        FlightReserved { id, .. }: FlightReserved,
    ) -> StepResult<(Noted, Completed, TrainWanted)> {
        Ok(Outcome::Success((Noted { id }, Completed { id }, TrainWanted { id, berth: false })))
    }
    Participant::named("trip")
        .step(Step::new("register", register))
        .step(Step::new("close", close))
        .completes_with::<Completed>()
        .completes_with::<TrainWanted>()
}

#[tokio::test(start_paused = true)]
async fn a_saga_ends_once_with_several_events_of_which_two_are_ends() {
    Flow::of([closing()])
        .run(async |flow| {
            let trip = by("train");
            flow.when(&trip).await;
            assert_eq!(flow.when(&FlightReserved { id: trip.id, to: String::new() }).await.len(), 3);
            let metrics = flow.metrics("trip");
            let finished = metrics.finished.get_or_create(&OutcomeLabel { outcome: "completed" }).get();
            assert_eq!((metrics.started.get(), finished), (1, 1));
            let summary = flow.store("trip").summary().await.unwrap();
            assert_eq!(summary.unfinished_sagas, 0, "nothing is left open");
            let state = flow.choreography().state(["trip.requested", "trip.completed"]);
            assert_eq!(state.status, SagaStatus::Completed);
        })
        .await;
}

fn requests() -> Participant<MemoryStore> {
    async fn finish(_: &mut Cx<'_, MemoryStore>, flight: FlightReserved) -> StepResult<Completed> {
        Ok(Outcome::Success(Completed { id: flight.id }))
    }
    async fn want(_: &mut Cx<'_, MemoryStore>, trip: Requested) -> StepResult<FlightWanted> {
        Ok(Outcome::Success(FlightWanted { id: trip.id, to: trip.by }))
    }
    Participant::named("trip")
        .publishes::<Requested>()
        .step(Step::new("want", want))
        .step(Step::new("finish", finish).pivot())
        .completes_with::<Completed>()
        .accept(Rule::WaitsHaveDeadlines, "the test is about others")
}

/// Its mail server refuses every mail.
fn mail() -> Participant<MemoryStore> {
    async fn send(_: &mut Cx<'_, MemoryStore>, _: FlightReserved) -> StepResult<Noted, Never> {
        Err(StepError::permanent("no such mailbox"))
    }
    Participant::named("mail").step(Step::new("send", send)).optional()
}

#[tokio::test(start_paused = true)]
async fn a_saga_completes_without_its_optional_participant() {
    Flow::of([requests(), flight(), mail()])
        .run(async |flow| {
            assert_eq!(flow.choreography().check(), []);
            let trip = by("plane");
            let published = flow.when(&trip).await;
            assert!(types(&published).contains(&"trip.completed"), "{published:?}");
            assert_eq!(flow.dead_letters().len(), 1);
            assert_eq!(flow.store("mail").summary().await.unwrap().blocked_sagas, 1);
            let names = flow.types();
            let state = flow.choreography().state(names.iter().map(String::as_str));
            assert_eq!((state.status, state.expected.len()), (SagaStatus::Completed, 0));
        })
        .await;
}
