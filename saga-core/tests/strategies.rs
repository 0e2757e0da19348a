//! Strategies of compensation side by side: in sequence, in parallel, and at best effort, on a trip whose car is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::time::Duration;

use common::events::events;
use saga_core::{
    Outcome, Participant, RetryPolicy, SagaId, Step, StepError, StepResult,
    envelope::header,
    handler::Cx,
    runtime::OutcomeLabel,
    testing::{Flow, MemoryStore, Published, Running},
};
use uuid::Uuid;

events! {
    Requested = "trip.requested" on "trip.events" {}
    FlightReserved = "flight.reserved" on "flight.events" {}
    FlightReleased = "flight.released" on "flight.events" {}
    HotelReserved = "hotel.reserved" on "hotel.events" {}
    HotelReleased = "hotel.released" on "hotel.events" {}
    CarReserved = "car.reserved" on "car.events" {}
    CarRejected = "car.rejected" on "car.events" {}
    TripRefused = "trip.refused" on "trip.events" {}
    TripCancelled = "trip.cancelled" on "trip.events" {}
    TripAbandoned = "trip.abandoned" on "trip.events" {}
    TripTicketed = "flight.ticketed" on "flight.events" {}
}

macro_rules! made_from {
    ($($of:ident -> $made:ident),*) => {$(
        impl From<$of> for $made {
            fn from(why: $of) -> Self {
                Self { id: why.id }
            }
        }
    )*};
}

made_from! { HotelReleased -> FlightReleased, TripRefused -> FlightReleased, CarRejected -> HotelReleased, TripRefused -> HotelReleased }

type Tx<'t> = Cx<'t, MemoryStore>;

/// How the compensation of a step fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Release {
    Works,
    FailsForGood,
    NeverAnswers,
}

impl Release {
    fn end<E>(self, event: E) -> Result<E, StepError> {
        match self {
            Self::Works => Ok(event),
            Self::FailsForGood => Err(StepError::permanent("the room is not given back")),
            Self::NeverAnswers => Err(StepError::transient("no answer")),
        }
    }
}

async fn reject(_: &mut Tx<'_>, id: Uuid) -> StepResult<CarReserved, CarRejected> {
    Ok(Outcome::Refused(CarRejected { id }))
}

/// One after the other: each compensation is started by that of the step behind it.
fn in_sequence(hotel: Release) -> Vec<Participant<MemoryStore>> {
    let fly = async |_: &mut Tx<'_>, trip: Requested| {
        Ok::<_, StepError>(Outcome::<_>::Success(FlightReserved { id: trip.id }))
    };
    let stay = async |_: &mut Tx<'_>, trip: FlightReserved| {
        Ok::<_, StepError>(Outcome::<_>::Success(HotelReserved { id: trip.id }))
    };
    let land = async |_: &mut Tx<'_>, why: HotelReleased| Ok::<_, StepError>(FlightReleased::from(why));
    let leave = async move |_: &mut Tx<'_>, why: CarRejected| hotel.end(HotelReleased::from(why));
    let cancel = async |cx: &mut Tx<'_>, why: FlightReleased| ended(cx, why.id);
    vec![
        Participant::named("flight").step(Step::new("reserve", fly).undone_by(land)),
        Participant::named("hotel").step(Step::new("reserve", stay).undone_by(leave).best_effort()),
        Participant::named("car")
            .step(Step::new("reserve", async |cx: &mut Tx<'_>, trip: HotelReserved| reject(cx, trip.id).await))
            .completes_with::<CarReserved>(),
        Participant::named("trip")
            .step(Step::new("cancel", cancel))
            .publishes::<Requested>()
            .compensates_with::<TripCancelled>(),
    ]
}

/// All at once: one event starts them, and a join waits for them.
fn in_parallel(flight: Release, hotel: Release) -> Vec<Participant<MemoryStore>> {
    let fly = async |_: &mut Tx<'_>, trip: Requested| {
        Ok::<_, StepError>(Outcome::<_>::Success(FlightReserved { id: trip.id }))
    };
    let stay = async |_: &mut Tx<'_>, trip: Requested| {
        Ok::<_, StepError>(Outcome::<_>::Success(HotelReserved { id: trip.id }))
    };
    let land = async move |_: &mut Tx<'_>, why: TripRefused| flight.end(FlightReleased::from(why));
    let leave = async move |_: &mut Tx<'_>, why: TripRefused| hotel.end(HotelReleased::from(why));
    let refuse =
        async |_: &mut Tx<'_>, why: CarRejected| Ok::<_, StepError>(Outcome::<_>::Success(TripRefused { id: why.id }));
    let cancel = async |cx: &mut Tx<'_>, (flight, _): (FlightReleased, HotelReleased)| ended(cx, flight.id);
    let abandon = async |_: &mut Tx<'_>, trips: Vec<SagaId>| {
        Ok::<_, StepError>(
            trips.into_iter().map(|trip| Outcome::<_>::Success(TripAbandoned { id: trip.as_uuid() })).collect(),
        )
    };
    let cancel = Step::new("cancel", cancel).arrivals_within(Duration::from_secs(60), abandon);
    vec![
        Participant::named("flight").step(Step::new("reserve", fly).undone_by(land)),
        Participant::named("hotel").step(Step::new("reserve", stay).undone_by(leave).best_effort()),
        Participant::named("car")
            .step(Step::new("reserve", async |cx: &mut Tx<'_>, trip: Requested| reject(cx, trip.id).await)),
        Participant::named("trip")
            .step(Step::new("refuse", refuse))
            .step(cancel)
            .publishes::<Requested>()
            .compensates_with::<TripCancelled>()
            .compensates_with::<TripAbandoned>(),
    ]
}

/// Ends the trip, and notes what the participant is told of its compensations.
fn ended(cx: &mut Tx<'_>, id: Uuid) -> StepResult<TripCancelled> {
    let partly = cx.is_partly_compensated(id.into());
    cx.tx().put("partly compensated", &partly);
    Ok(Outcome::Success(TripCancelled { id }))
}

fn has(event: &Published, name: &str) -> bool {
    event.record.headers.iter().any(|h| h.is(name) && h.value.as_deref() == Some(b"true"))
}

/// The types of all events that have this header.
fn with(flow: &Running<MemoryStore>, name: &str) -> Vec<String> {
    flow.events().into_iter().filter(|event| has(event, name)).map(|event| event.event_type).collect()
}

fn finished(flow: &Running<MemoryStore>) -> [u64; 2] {
    let finished = &flow.metrics("trip").finished;
    ["compensated", "partly_compensated"].map(|outcome| finished.get_or_create(&OutcomeLabel { outcome }).get())
}

#[tokio::test(start_paused = true)]
async fn compensations_run_one_after_the_other_or_all_at_once() {
    for (participants, sequential) in
        [(in_sequence(Release::Works), true), (in_parallel(Release::Works, Release::Works), false)]
    {
        Flow::of(participants)
            .run(async |flow| {
                flow.when(&Requested { id: Uuid::now_v7() }).await;
                let types = flow.types();
                let place = |event: &str| types.iter().position(|t| t == event).unwrap();
                assert_eq!(place("trip.cancelled"), types.len() - 1);
                if sequential {
                    assert!(
                        place("car.rejected") < place("hotel.released")
                            && place("hotel.released") < place("flight.released")
                    );
                } else {
                    assert!(
                        place("trip.refused") < place("hotel.released")
                            && place("trip.refused") < place("flight.released")
                    );
                }
                assert_eq!(with(flow, header::PARTLY_COMPENSATED), [""; 0]);
                assert_eq!(finished(flow), [1, 0]);
                assert_eq!(flow.store("trip").get("partly compensated").await, Some(false));
                assert!(flow.dead_letters().is_empty());
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_after_the_pivot_is_retried_until_it_succeeds() {
    let book = async |_: &mut Tx<'_>, trip: Requested| {
        Ok::<_, StepError>(Outcome::<_>::Success(FlightReserved { id: trip.id }))
    };
    let tries = std::sync::atomic::AtomicU32::new(0);
    let ticket = async move |_: &mut Tx<'_>, trip: FlightReserved| match tries
        .fetch_add(1, std::sync::atomic::Ordering::SeqCst)
    {
        0..50 => Err(StepError::transient("the printer is out of paper")),
        _ => Ok(Outcome::<_>::Success(TripTicketed { id: trip.id })),
    };
    let retry = RetryPolicy::until_it_succeeds(Duration::from_millis(100), Duration::from_secs(1));
    Flow::of([
        Participant::named("trip").step(Step::new("book", book).pivot()).publishes::<Requested>(),
        Participant::named("flight").step(Step::new("ticket", ticket).retry(retry)).completes_with::<TripTicketed>(),
    ])
    .run(async |flow| {
        assert_eq!(flow.choreography().check(), []);
        flow.when(&Requested { id: Uuid::now_v7() }).await;
        assert_eq!(flow.types(), ["trip.requested", "flight.reserved", "flight.ticketed"]);
        assert!(flow.dead_letters().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_a_failed_compensation_goes_on_through_a_chain_of_compensations_to_the_end() {
    Flow::of(in_sequence(Release::FailsForGood))
        .run(async |flow| {
            flow.when(&Requested { id: Uuid::now_v7() }).await;
            assert_eq!(flow.choreography().check(), []);
            assert_eq!(with(flow, header::COMPENSATION_FAILED), ["hotel.released"]);
            assert_eq!(with(flow, header::PARTLY_COMPENSATED), ["hotel.released", "flight.released", "trip.cancelled"]);
            assert_eq!(finished(flow), [0, 1], "never claimed as compensated");
            assert_eq!(flow.store("trip").get("partly compensated").await, Some(true));
            let failed = flow.store("hotel").failed_compensations().await;
            assert_eq!(
                failed.iter().map(|failed| failed.reason.as_str()).collect::<Vec<_>>(),
                ["the room is not given back"]
            );
            assert!(flow.store("flight").failed_compensations().await.is_empty());
            assert_eq!(flow.dead_letters().len(), 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_join_carries_the_mark_on_whichever_of_its_events_has_it() {
    for flight in [Release::Works, Release::NeverAnswers] {
        Flow::of(in_parallel(flight, Release::FailsForGood))
            .run(async |flow| {
                let trip = Requested { id: Uuid::now_v7() };
                // A compensation that never answers never settles.
                tokio::select! { _ = flow.when(&trip) => {}, () = flow.pass(Duration::from_secs(40)) => {} }
                if flight == Release::NeverAnswers {
                    assert_eq!(with(flow, header::PARTLY_COMPENSATED), ["hotel.released"]);
                    assert_eq!(finished(flow), [0, 0]);
                    flow.pass(Duration::from_secs(60)).await;
                }
                let end = if flight == Release::Works { "trip.cancelled" } else { "trip.abandoned" };
                assert_eq!(with(flow, header::COMPENSATION_FAILED), ["hotel.released"]);
                assert_eq!(with(flow, header::PARTLY_COMPENSATED), ["hotel.released", end]);
                assert_eq!(finished(flow), [0, 1]);
                let told = (flight == Release::Works).then_some(true);
                assert_eq!(flow.store("trip").get("partly compensated").await, told);
            })
            .await;
    }
}
