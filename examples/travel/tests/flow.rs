//! All participants together, in virtual time: every ending, and what the mail's failure does not do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::{ID, SOON, WAITS, databases, execute, flow, requested};
use saga::{database::Outbox, prelude::*, testing::Running, trace::TraceContext};
use travel::{
    books::{Books, Databases},
    events::{PriceAnswered, TripRequested, Wanted},
    trip::{Asked, asked, cancel_trip},
};

fn named(name: &str) -> Wanted {
    Wanted { name: name.to_owned(), quoted_cents: 100 }
}

/// Runs one trip: its request, and what the test does then. Returns its events and what is left.
async fn run(databases: &Databases, test: impl AsyncFnOnce(&Running<Db>)) -> (Vec<String>, Books) {
    let types = flow(databases, &MemoryBroker::new(3))
        .run(async |flow| {
            test(flow).await;
            assert!(flow.dead_letters().is_empty(), "{:?}", flow.dead_letters());
            flow.types()
        })
        .await;
    (types, databases.books().await.unwrap())
}

fn places(books: &Books) -> [usize; 3] {
    [books.holders[0].len(), books.holders[1].len(), books.holders[2].len()]
}

fn sorted(mut types: Vec<String>) -> Vec<String> {
    types.sort();
    types
}

#[tokio::test(start_paused = true)]
async fn a_trip_is_reserved_at_once_then_paid_then_confirmed() {
    let databases = databases().await;
    let (types, books) = run(&databases, async |flow| drop(flow.when(&requested()).await)).await;
    assert_eq!(sorted(types[1..4].to_vec()), ["car.reserved", "flight.reserved", "hotel.reserved"]);
    assert_eq!(types[4..], ["trip.priced", "payment.charged", "trip.confirmed"]);
    assert_eq!((places(&books), books.paid.len(), books.told.len()), ([1, 1, 1], 1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_refuses_and_the_others_are_released_at_once() {
    let databases = databases().await;
    let request = TripRequested { hotel: named("full"), ..requested() };
    let (types, books) = run(&databases, async |flow| drop(flow.when(&request).await)).await;
    let released = types.iter().filter(|event| event.ends_with(".released")).count();
    assert_eq!((released, types.last().unwrap().as_str()), (2, "trip.cancelled"));
    assert!(!types.iter().any(|event| event == "trip.priced"), "{types:?}");
    assert_eq!((places(&books), books.paid.len(), books.told.len()), ([0, 0, 0], 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_declined_card_releases_everything_behind_the_offer() {
    let databases = databases().await;
    let request = TripRequested { card: "declined".to_owned(), ..requested() };
    let (types, books) = run(&databases, async |flow| drop(flow.when(&request).await)).await;
    let at =
        |event: &str| types.iter().position(|other| other == event).unwrap_or_else(|| panic!("{event}: {types:?}"));
    assert!(at("payment.declined") < at("trip.answer_withdrawn"));
    assert!(at("trip.answer_withdrawn") < at("trip.offer_withdrawn"));
    assert!(at("trip.offer_withdrawn") < at("car.released"));
    assert_eq!((places(&books), types.last().unwrap().as_str()), ([0, 0, 0], "trip.cancelled"));
}

#[tokio::test(start_paused = true)]
async fn a_new_price_is_paid_when_the_customer_accepts_it_also_after_the_second_question() {
    let databases = databases().await;
    let request = TripRequested { hotel: named("dear"), ..requested() };
    let (types, books) = run(&databases, async |flow| {
        flow.when(&request).await;
        let first = Asked { trip_id: ID, number: 1, cents: 400 };
        assert_eq!(asked(&databases.trip).await.unwrap(), [first]);
        flow.after(WAITS.answer + SOON).await;
        assert_eq!(asked(&databases.trip).await.unwrap(), [first, Asked { number: 2, ..first }]);
        // The step that waits for its next round does not hold the answer up.
        flow.when(&PriceAnswered { trip_id: ID, cents: 400, accepted: true }).await;
        assert_eq!(flow.types().last().unwrap(), "trip.confirmed");
        assert!(flow.after(2 * WAITS.answer).await.is_empty());
    })
    .await;
    assert_eq!((places(&books), books.paid, books.most_asked), ([1, 1, 1], [(ID, 400)].into(), 2));
    assert!(!types.iter().any(|event| event == "trip.price_refused"));
}

#[tokio::test(start_paused = true)]
async fn a_customer_who_does_not_answer_is_asked_twice_and_then_no_more() {
    let databases = databases().await;
    let request = TripRequested { hotel: named("dear"), ..requested() };
    let (types, books) = run(&databases, async |flow| {
        flow.when(&request).await;
        assert!(flow.after(WAITS.answer + SOON).await.is_empty());
        let cancelled = flow.after(WAITS.answer + SOON).await;
        assert_eq!(cancelled[0].event_type, "trip.cancellation_requested");
        assert!(flow.when(&PriceAnswered { trip_id: ID, cents: 400, accepted: true }).await.is_empty(), "too late");
    })
    .await;
    assert!(types.contains(&"trip.cancelled".to_owned()));
    assert_eq!((places(&books), books.paid.len(), books.most_asked), ([0, 0, 0], 0, 2));
}

#[tokio::test(start_paused = true)]
async fn the_customer_waits_as_long_as_the_request_says() {
    let databases = databases().await;
    let request = TripRequested { hotel: named("dear"), patience_ms: 200, ..requested() };
    let (types, books) = run(&databases, async |flow| {
        flow.when(&request).await;
        flow.after(SOON).await;
    })
    .await;
    assert!(types.contains(&"trip.cancellation_requested".to_owned()), "{types:?}");
    assert_eq!((places(&books), types.last().unwrap().as_str()), ([0, 0, 0], "trip.cancelled"));
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_trip_is_not_cancelled() {
    let databases = databases().await;
    let (types, books) = run(&databases, async |flow| {
        flow.when(&requested()).await;
        let outbox = Outbox::new(flow.store("trip").clone(), flow.outbox("trip"));
        assert!(!cancel_trip(&outbox, &TraceContext::default(), ID).await.unwrap());
        flow.after(WAITS.end).await;
    })
    .await;
    assert_eq!((places(&books), types.last().unwrap().as_str()), ([1, 1, 1], "trip.confirmed"));
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_cannot_be_sent_stops_no_trip() {
    let databases = databases().await;
    // The mail is there already, which the table does not allow twice.
    let sent = "INSERT INTO mails (trip_id, subject) VALUES ($1, 'have a good trip')";
    execute(&databases.mail, sent, params![ID]).await;
    flow(&databases, &MemoryBroker::new(3))
        .run(async |flow| {
            flow.when(&requested()).await;
            assert!(flow.types().contains(&"trip.confirmed".to_owned()));
            let letters: Vec<_> = flow.dead_letters().iter().map(|letter| letter.record.topic.to_string()).collect();
            assert_eq!(letters, ["mail.dlq"]);
        })
        .await;
}
