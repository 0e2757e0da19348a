//! The trip: waits for what is reserved, offers the price, asks when it has changed, and knows how the trip ends.

mod handlers;
mod requests;
mod store;

use std::time::Duration;

use saga::prelude::*;

use crate::events::{
    AnswerWithdrawn, CarRejected, CarReleased, FlightRejected, FlightReleased, HotelRejected, HotelReleased,
    PaymentDeclined, PaymentRefunded, PriceAnswered, PriceChanged, PriceRefused, QuestionOpened,
    TripCancellationRequested, TripCancelled, TripConfirmed, TripPriced, TripRequested,
};

pub use requests::{Asked, asked, cancel as cancel_trip, routes};
pub use store::MIGRATIONS;

/// How often a customer is asked about a new price.
pub const MOST_QUESTIONS: u32 = 2;

/// How long the trip waits.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For everything, where the request does not say it.
    pub end: Duration,
    /// For what is reserved and released.
    pub places: Duration,
    /// For an answer, before the customer is asked again.
    pub answer: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            end: Duration::from_secs(3 * 24 * 3600),
            places: Duration::from_secs(15 * 60),
            answer: Duration::from_secs(24 * 3600),
        }
    }
}

/// What is offered when everything is reserved.
#[derive(Emit)]
pub enum Offer {
    /// It costs what the customer has seen.
    Priced(TripPriced),
    /// It costs more: the price, and a question about it.
    Changed((PriceChanged, QuestionOpened)),
}

/// No seat is held.
#[derive(Clone, Debug, Trigger)]
#[trigger(fields(trip_id: Uuid, reason: String))]
pub enum NoFlight {
    /// There was none.
    Rejected(FlightRejected),
    /// It is free again.
    Released(FlightReleased),
}

/// No room is held.
#[derive(Clone, Debug, Trigger)]
pub enum NoHotel {
    /// There was none.
    Rejected(HotelRejected),
    /// It is free again.
    Released(HotelReleased),
}

/// No car is held.
#[derive(Clone, Debug, Trigger)]
pub enum NoCar {
    /// There was none.
    Rejected(CarRejected),
    /// It is free again.
    Released(CarReleased),
}

/// The participant.
pub fn participant(waits: Waits) -> Participant<Db> {
    let ask = async move |cx: &mut Cx<'_, Db>, opened: QuestionOpened| handlers::ask(cx, opened, waits.answer).await;
    Participant::named("trip")
        .publishes::<TripRequested>()
        .publishes::<TripCancellationRequested>()
        .publishes::<PriceAnswered>()
        .step(Step::new("register", handlers::register).saga_deadline(waits.end, handlers::expire))
        .step(
            Step::new("offer", handlers::offer)
                .arrivals_within(waits.places, handlers::expire)
                .undone_by(handlers::withdraw_offer)
                .on::<(PriceRefused, AnswerWithdrawn)>(),
        )
        .step(Step::new("ask", ask).again(Rounds::at_most(MOST_QUESTIONS + 1)))
        .step(
            Step::new("answer", handlers::answer)
                .undone_by(handlers::withdraw_answer)
                .on::<(PaymentDeclined, PaymentRefunded)>(),
        )
        .step(Step::new("confirm", handlers::confirm).pivot())
        .step(Step::new("cancel", handlers::cancel))
        .completes_with::<TripConfirmed>()
        .compensates_with::<TripCancelled>()
}

/// The service.
pub fn service(waits: Waits) -> Service {
    saga::serve(participant(waits)).http("127.0.0.1:8111").migrations(MIGRATIONS).routes(routes)
}
