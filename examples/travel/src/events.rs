//! The events of a trip. In a flow of several services they are a crate that all depend on.

use saga::prelude::*;

/// A flight, a hotel or a car, and the price that the customer has seen.
#[saga_data]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The price that the customer has seen.
    pub quoted_cents: i64,
}

/// A customer wants to travel: the saga starts.
#[saga_event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
pub struct TripRequested {
    /// The trip, which is also the saga.
    pub trip_id: Uuid,
    /// The flight.
    pub flight: Wanted,
    /// The hotel.
    pub hotel: Wanted,
    /// The car.
    pub car: Wanted,
    /// How to pay.
    pub card: String,
    /// How long the customer waits for the whole trip.
    pub patience_ms: i64,
}

impl TripRequested {
    /// The price that the customer has seen of everything together.
    pub fn quoted_cents(&self) -> i64 {
        self.flight.quoted_cents + self.hotel.quoted_cents + self.car.quoted_cents
    }
}

/// The customer has changed their mind, does not answer, or has waited long enough. It enters at the payment and flows back from there.
#[saga_event(name = "trip.cancellation_requested", topic = "trip.events", saga = "trip_id")]
pub struct TripCancellationRequested {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// Everything is reserved at the price that the customer has seen or accepted.
#[saga_event(name = "trip.priced", topic = "trip.events", saga = "trip_id")]
pub struct TripPriced {
    /// The trip.
    pub trip_id: Uuid,
    /// The price.
    pub cents: i64,
    /// How to pay.
    pub card: String,
}

/// Everything is reserved, for more than the customer has seen.
#[saga_event(name = "trip.price_changed", topic = "trip.events", saga = "trip_id")]
pub struct PriceChanged {
    /// The trip.
    pub trip_id: Uuid,
    /// The new price.
    pub cents: i64,
}

/// The customer is to be asked about the new price.
#[saga_event(name = "trip.question_opened", topic = "trip.events", saga = "trip_id")]
pub struct QuestionOpened {
    /// The trip.
    pub trip_id: Uuid,
}

/// The customer's answer to a new price.
#[saga_event(name = "trip.price_answered", topic = "trip.events", saga = "trip_id")]
pub struct PriceAnswered {
    /// The trip.
    pub trip_id: Uuid,
    /// The price that they were asked about.
    pub cents: i64,
    /// Whether they pay it.
    pub accepted: bool,
}

/// The customer does not pay the new price.
#[saga_event(name = "trip.price_refused", topic = "trip.events", saga = "trip_id")]
pub struct PriceRefused {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// No answer counts any more.
#[saga_event(
    name = "trip.answer_withdrawn",
    topic = "trip.events",
    saga = "trip_id",
    from(PaymentDeclined, PaymentRefunded)
)]
pub struct AnswerWithdrawn {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// No price is offered any more: what is reserved can be released.
#[saga_event(
    name = "trip.offer_withdrawn",
    topic = "trip.events",
    saga = "trip_id",
    from(PriceRefused, AnswerWithdrawn)
)]
pub struct OfferWithdrawn {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// Reserved and paid: the end.
#[saga_event(name = "trip.confirmed", topic = "trip.events", saga = "trip_id")]
pub struct TripConfirmed {
    /// The trip.
    pub trip_id: Uuid,
}

/// Nothing is reserved and nothing paid: the end.
#[saga_event(name = "trip.cancelled", topic = "trip.events", saga = "trip_id")]
pub struct TripCancelled {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// There is a seat.
#[saga_event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
pub struct FlightReserved {
    /// The trip.
    pub trip_id: Uuid,
    /// The price that the customer has seen.
    pub quoted_cents: i64,
    /// The price.
    pub cents: i64,
    /// How to pay.
    pub card: String,
}

/// There is no seat.
#[saga_event(name = "flight.rejected", topic = "flight.events", saga = "trip_id")]
pub struct FlightRejected {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// The seat is free again.
#[saga_event(
    name = "flight.released",
    topic = "flight.events",
    saga = "trip_id",
    from(HotelRejected, CarRejected, OfferWithdrawn)
)]
pub struct FlightReleased {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// There is a room.
#[saga_event(name = "hotel.reserved", topic = "hotel.events", saga = "trip_id")]
pub struct HotelReserved {
    /// The trip.
    pub trip_id: Uuid,
    /// The price that the customer has seen.
    pub quoted_cents: i64,
    /// The price.
    pub cents: i64,
}

/// There is no room.
#[saga_event(name = "hotel.rejected", topic = "hotel.events", saga = "trip_id")]
pub struct HotelRejected {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// The room is free again.
#[saga_event(
    name = "hotel.released",
    topic = "hotel.events",
    saga = "trip_id",
    from(FlightRejected, CarRejected, OfferWithdrawn)
)]
pub struct HotelReleased {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// There is a car.
#[saga_event(name = "car.reserved", topic = "car.events", saga = "trip_id")]
pub struct CarReserved {
    /// The trip.
    pub trip_id: Uuid,
    /// The price that the customer has seen.
    pub quoted_cents: i64,
    /// The price.
    pub cents: i64,
}

/// There is no car.
#[saga_event(name = "car.rejected", topic = "car.events", saga = "trip_id")]
pub struct CarRejected {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// The car is free again.
#[saga_event(
    name = "car.released",
    topic = "car.events",
    saga = "trip_id",
    from(FlightRejected, HotelRejected, OfferWithdrawn)
)]
pub struct CarReleased {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// The trip is paid.
#[saga_event(name = "payment.charged", topic = "payment.events", saga = "trip_id")]
pub struct PaymentCharged {
    /// The trip.
    pub trip_id: Uuid,
}

/// The card is declined.
#[saga_event(name = "payment.declined", topic = "payment.events", saga = "trip_id")]
pub struct PaymentDeclined {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// Nothing is paid, or it is paid back; no later charge is possible.
#[saga_event(name = "payment.refunded", topic = "payment.events", saga = "trip_id", from(TripCancellationRequested))]
pub struct PaymentRefunded {
    /// The trip.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}
