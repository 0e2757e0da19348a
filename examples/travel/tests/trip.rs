//! The trip on the real runtime: given some events, when one arrives, then these are published.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::{ID, WAITS, in_memory, requested};
use saga::{prelude::*, testing::Published};
use travel::{
    events::{
        CarReleased, CarReserved, FlightRejected, FlightReserved, HotelReleased, HotelReserved, PaymentCharged,
        PaymentDeclined, PriceAnswered, PriceChanged, TripCancelled, TripConfirmed, TripPriced,
    },
    trip::{self, participant},
};

fn flight() -> FlightReserved {
    FlightReserved { trip_id: ID, quoted_cents: 100, cents: 100, card: "good".to_owned() }
}

fn hotel(cents: i64) -> HotelReserved {
    HotelReserved { trip_id: ID, quoted_cents: 100, cents }
}

fn car() -> CarReserved {
    CarReserved { trip_id: ID, quoted_cents: 100, cents: 100 }
}

async fn scenario() -> Scenario<Db> {
    Scenario::new(participant(WAITS), in_memory("trip", trip::MIGRATIONS).await)
}

fn types(published: &[Published]) -> Vec<&str> {
    published.iter().map(|event| event.event_type.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_price_is_said_when_everything_is_reserved_in_any_order() {
    let price = TripPriced { trip_id: ID, cents: 300, card: "good".to_owned() };
    let published = scenario().await.given(&requested()).given(&flight()).given(&hotel(100)).when(&car()).await;
    assert_eq!(published[0].read(), Some(price.clone()));
    let published = scenario().await.given(&car()).given(&flight()).given(&requested()).when(&hotel(100)).await;
    assert_eq!(published[0].read(), Some(price));
    let two = scenario().await.given(&requested()).given(&flight()).when(&hotel(100)).await;
    assert!(two.is_empty(), "{two:?}");
}

#[tokio::test(start_paused = true)]
async fn a_price_that_changed_is_not_charged_without_an_answer() {
    let reserved = scenario().await.given(&flight()).given(&car());
    let published = reserved.when(&hotel(150)).await;
    assert_eq!(types(&published), ["trip.price_changed", "trip.question_opened"]);
    assert_eq!(published[0].read(), Some(PriceChanged { trip_id: ID, cents: 350 }));
}

#[tokio::test(start_paused = true)]
async fn the_answer_decides_and_the_first_one_counts() {
    let answered = |accepted| PriceAnswered { trip_id: ID, cents: 350, accepted };
    let changed = PriceChanged { trip_id: ID, cents: 350 };
    let asked = || async { scenario().await.given(&flight()).given(&car()).given(&hotel(150)).given(&changed) };
    let published = asked().await.when(&answered(true)).await;
    assert_eq!(published[0].read(), Some(TripPriced { trip_id: ID, cents: 350, card: "good".to_owned() }));
    assert_eq!(types(&asked().await.when(&answered(false)).await), ["trip.price_refused", "trip.offer_withdrawn"]);
    let second = asked().await.given(&answered(true)).when(&answered(false)).await;
    assert!(second.is_empty(), "{second:?}");
}

/// The join keeps an answer that comes before the question, and nobody has accepted a price that they did not know.
#[tokio::test(start_paused = true)]
async fn an_answer_to_another_price_is_a_refusal_also_when_it_comes_first() {
    let answered = PriceAnswered { trip_id: ID, cents: 320, accepted: true };
    let changed = PriceChanged { trip_id: ID, cents: 350 };
    let refused = ["trip.price_refused", "trip.offer_withdrawn"];
    let reserved = || async { scenario().await.given(&flight()).given(&car()) };
    let published = reserved().await.given(&hotel(150)).given(&changed).when(&answered).await;
    assert_eq!(types(&published), refused);
    let published = reserved().await.given(&answered).when(&hotel(150)).await;
    assert_eq!(types(&published), [["trip.price_changed", "trip.question_opened"], refused].concat());
}

#[tokio::test(start_paused = true)]
async fn a_declined_card_withdraws_the_answer_and_the_offer() {
    let declined = PaymentDeclined { trip_id: ID, reason: "card_declined".to_owned() };
    let reserved = scenario().await.given(&flight()).given(&hotel(100)).given(&car());
    assert_eq!(types(&reserved.when(&declined).await), ["trip.answer_withdrawn", "trip.offer_withdrawn"]);
}

#[tokio::test(start_paused = true)]
async fn a_trip_is_cancelled_when_nobody_holds_anything() {
    let no_flight = FlightRejected { trip_id: ID, reason: "no_flight".to_owned() };
    let hotel = HotelReleased { trip_id: ID, reason: "no_flight".to_owned() };
    let car = CarReleased { trip_id: ID, reason: "no_flight".to_owned() };
    let two = scenario().await.given(&requested()).given(&no_flight).when(&hotel).await;
    assert!(two.is_empty(), "the car is still held: {two:?}");
    let published = scenario().await.given(&requested()).given(&no_flight).given(&car).when(&hotel).await;
    assert_eq!(published[0].read(), Some(TripCancelled { trip_id: ID, reason: "no_flight".to_owned() }));
}

#[tokio::test(start_paused = true)]
async fn a_paid_trip_is_confirmed_once() {
    let paid = PaymentCharged { trip_id: ID };
    let published = scenario().await.given(&requested()).when(&paid).await;
    assert_eq!(published[0].read(), Some(TripConfirmed { trip_id: ID }));
    assert!(scenario().await.given(&requested()).given(&paid).when(&paid).await.is_empty());
}
