//! A trip of a flight, a hotel and a car: reserved at once, joined, and then paid. When one of them refuses, the others are
//! released at once, and joined again before the trip is cancelled.

pub mod books;
pub mod car;
pub mod demo;
pub mod events;
pub mod flight;
pub mod hotel;
pub mod mail;
pub mod payment;
pub mod places;
pub mod trip;

use saga::graph::Choreography;

/// The whole flow, to be checked, drawn and inspected.
pub fn choreography() -> Choreography {
    Choreography::of(vec![
        trip::participant(trip::Waits::default()).declaration(),
        flight::participant().declaration(),
        hotel::participant().declaration(),
        car::participant().declaration(),
        payment::participant().declaration(),
        mail::participant().declaration(),
    ])
}
