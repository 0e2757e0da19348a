//! The customers of the demonstration: what each wants, does, and may get.

use saga::prelude::*;

use crate::{
    books::Ending,
    events::{CarReserved, FlightReserved, HotelReserved, PaymentCharged, TripPriced, TripRequested, Wanted},
};

/// The price of each place, and what customers have seen.
pub(crate) const CENTS: i64 = 10_000;
/// The name of places that are there, of places that are not, and of places that cost more than customers have seen.
pub(crate) const FREE: &str = "free";
pub(crate) const FULL: &str = "full";
pub(crate) const DEAR: &str = "dear";

/// A kind of customer, by what happens to their trip.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Customer {
    /// All goes well.
    Lucky,
    /// There is no seat.
    WithoutFlight,
    /// There is no room.
    WithoutHotel,
    /// There is no car.
    WithoutCar,
    /// There is nothing at all.
    WithoutAnything,
    /// Their card is declined.
    WithoutMoney,
    /// The price changes, and they accept.
    Generous,
    /// The price changes, and they accept only when they are asked again.
    Forgetful,
    /// The price changes, and they refuse.
    Thrifty,
    /// The price changes, and they do not answer.
    Silent,
    /// They wait for less time than it takes.
    Impatient,
    /// They cancel, each at another moment.
    Fickle,
}

impl Customer {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Lucky,
        Self::WithoutFlight,
        Self::WithoutHotel,
        Self::WithoutCar,
        Self::WithoutAnything,
        Self::WithoutMoney,
        Self::Generous,
        Self::Forgetful,
        Self::Thrifty,
        Self::Silent,
        Self::Impatient,
        Self::Fickle,
    ];

    /// What happens, in words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Lucky => "all goes well",
            Self::WithoutFlight => "no seat",
            Self::WithoutHotel => "no room",
            Self::WithoutCar => "no car",
            Self::WithoutAnything => "no seat, no room, no car",
            Self::WithoutMoney => "the card is declined",
            Self::Generous => "a new price, accepted",
            Self::Forgetful => "accepted when asked again",
            Self::Thrifty => "a new price, refused",
            Self::Silent => "a new price, no answer",
            Self::Impatient => "past the deadline",
            Self::Fickle => "cancelled at any moment",
        }
    }

    pub(crate) fn request(self, trip_id: Uuid) -> TripRequested {
        let wanted = |is_full: bool, is_dear: bool| {
            let name = if is_full {
                FULL
            } else if is_dear {
                DEAR
            } else {
                FREE
            };
            Wanted { name: name.to_owned(), quoted_cents: CENTS }
        };
        let nothing = self == Self::WithoutAnything;
        let is_dear = matches!(self, Self::Generous | Self::Forgetful | Self::Thrifty | Self::Silent | Self::Impatient);
        TripRequested {
            trip_id,
            flight: wanted(nothing || self == Self::WithoutFlight, false),
            hotel: wanted(nothing || self == Self::WithoutHotel, is_dear),
            car: wanted(nothing || self == Self::WithoutCar, false),
            card: if self == Self::WithoutMoney { "declined" } else { "good" }.to_owned(),
            patience_ms: if self == Self::Impatient { 300 } else { 60_000 },
        }
    }

    /// The answer to the trip's nth question about a new price.
    pub(crate) fn answer(self, number: i64) -> Option<bool> {
        match (self, number) {
            (Self::Generous, 1) | (Self::Forgetful, 2) => Some(true),
            (Self::Thrifty, 1) => Some(false),
            _ => None,
        }
    }

    /// The event after which the nth of them cancels.
    pub(crate) fn cancels_at(self, n: usize) -> Option<&'static str> {
        let moments = [
            TripRequested::NAME,
            FlightReserved::NAME,
            HotelReserved::NAME,
            CarReserved::NAME,
            TripPriced::NAME,
            PaymentCharged::NAME,
        ];
        (self == Self::Fickle).then(|| moments[n % moments.len()])
    }

    /// How the trip may end.
    pub(crate) fn expects(self) -> Vec<Ending> {
        let cancelled =
            |reasons: &[&str]| reasons.iter().map(|reason| Ending::Cancelled((*reason).to_owned())).collect();
        match self {
            Self::Lucky => vec![Ending::Confirmed],
            // An answer that takes too long on a busy machine is none.
            Self::Generous | Self::Forgetful => [vec![Ending::Confirmed], cancelled(&["no_answer"])].concat(),
            Self::WithoutFlight => cancelled(&["no_flight"]),
            Self::WithoutHotel => cancelled(&["no_hotel"]),
            Self::WithoutCar => cancelled(&["no_car"]),
            Self::WithoutAnything => cancelled(&["no_flight", "no_hotel", "no_car"]),
            Self::WithoutMoney => cancelled(&["card_declined"]),
            Self::Thrifty => cancelled(&["price_refused", "no_answer"]),
            Self::Silent => cancelled(&["no_answer"]),
            Self::Impatient => cancelled(&["deadline"]),
            // Too late is not cancelled.
            Self::Fickle => [cancelled(&["customer"]), vec![Ending::Confirmed]].concat(),
        }
    }
}
