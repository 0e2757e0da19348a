//! Those who have places, and the payment, on the real runtime: given some events, when one arrives, then these are published.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::{ID, PLACES, execute, in_memory, provider, requested};
use saga::prelude::*;
use travel::{
    car,
    events::{
        CarRejected, FlightReleased, FlightReserved, HotelRejected, OfferWithdrawn, PaymentCharged, PaymentDeclined,
        PaymentRefunded, TripCancellationRequested, TripPriced, TripRequested, Wanted,
    },
    flight, hotel, payment,
};

async fn free(db: &Db) -> i64 {
    let row = db.query_opt("SELECT CAST(sum(free) AS bigint) AS n FROM places", params![]).await.unwrap().unwrap();
    row.get("n").unwrap()
}

fn no_hotel() -> HotelRejected {
    HotelRejected { trip_id: ID, reason: "no_hotel".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_place_is_taken_and_its_price_is_said() {
    let db = provider("flight").await;
    let published = Scenario::new(flight::participant(), db.clone()).when(&requested()).await;
    let reserved = FlightReserved { trip_id: ID, quoted_cents: 100, cents: 100, card: "good".to_owned() };
    assert_eq!(published[0].read(), Some(reserved));
    assert_eq!(free(&db).await, PLACES - 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_place_each_of_them_refuses() {
    let none = || Wanted { name: "full".to_owned(), quoted_cents: 100 };
    let request = TripRequested { flight: none(), hotel: none(), car: none(), ..requested() };
    for (participant, event) in [
        (flight::participant(), "flight.rejected"),
        (hotel::participant(), "hotel.rejected"),
        (car::participant(), "car.rejected"),
    ] {
        let db = provider(participant.name()).await;
        let published = Scenario::new(participant, db.clone()).when(&request).await;
        assert_eq!(published[0].event_type, event);
        assert_eq!(free(&db).await, PLACES);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_trips_the_last_place_is_taken_by_one() {
    let db = provider("car").await;
    execute(&db, "UPDATE places SET free = 1 WHERE name = 'free'", params![]).await;
    let other = TripRequested { trip_id: Uuid::from_u128(2), ..requested() };
    let published = Scenario::new(car::participant(), db.clone()).given(&requested()).when(&other).await;
    assert_eq!(published[0].read(), Some(CarRejected { trip_id: other.trip_id, reason: "no_car".to_owned() }));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_is_released_once_whoever_else_refuses() {
    let db = provider("flight").await;
    let no_car = CarRejected { trip_id: ID, reason: "no_car".to_owned() };
    let published = Scenario::new(flight::participant(), db.clone()).given(&requested()).when(&no_hotel()).await;
    assert_eq!(published[0].read(), Some(FlightReleased { trip_id: ID, reason: "no_hotel".to_owned() }));
    assert!(Scenario::new(flight::participant(), db.clone()).when(&no_car).await.is_empty());
    assert_eq!(free(&db).await, PLACES);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_overtakes_its_request_takes_no_place() {
    let db = provider("flight").await;
    let withdrawn = OfferWithdrawn { trip_id: ID, reason: "customer".to_owned() };
    let published = Scenario::new(flight::participant(), db.clone()).when(&withdrawn).await;
    assert!(published[0].null_compensation && published[0].event_type == "flight.released");
    assert!(Scenario::new(flight::participant(), db.clone()).when(&requested()).await.is_empty());
    assert_eq!(free(&db).await, PLACES);
}

fn priced(card: &str) -> TripPriced {
    TripPriced { trip_id: ID, cents: 300, card: card.to_owned() }
}

fn cancellation() -> TripCancellationRequested {
    TripCancellationRequested { trip_id: ID, reason: "customer".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_good_card_is_charged_and_another_declined() {
    let db = in_memory("payment", payment::MIGRATIONS).await;
    let published = Scenario::new(payment::participant(), db).when(&priced("good")).await;
    assert_eq!(published[0].read(), Some(PaymentCharged { trip_id: ID }));
    let db = in_memory("payment", payment::MIGRATIONS).await;
    let published = Scenario::new(payment::participant(), db).when(&priced("declined")).await;
    assert_eq!(published[0].read(), Some(PaymentDeclined { trip_id: ID, reason: "card_declined".to_owned() }));
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_refunds_and_no_later_price_is_charged() {
    let db = in_memory("payment", payment::MIGRATIONS).await;
    let scenario = Scenario::new(payment::participant(), db.clone()).given(&priced("good"));
    let published = scenario.when(&cancellation()).await;
    assert_eq!(published[0].read(), Some(PaymentRefunded { trip_id: ID, reason: "customer".to_owned() }));
    assert!(!published[0].null_compensation);
    let row = db.query_opt("SELECT refunded FROM payments", params![]).await.unwrap().unwrap();
    assert!(row.get::<bool>("refunded").unwrap());

    let db = in_memory("payment", payment::MIGRATIONS).await;
    let late = Scenario::new(payment::participant(), db).given(&cancellation()).when(&priced("good")).await;
    assert!(late.is_empty(), "{late:?}");
}
