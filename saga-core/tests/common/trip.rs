//! The events of a trip whose seat is taken and freed, for tests that need only their saga ids.

use uuid::Uuid;

use super::events::events;

events! {
    Booked = "trip.booked" on "trip.events" {}
    Cancelled = "trip.cancelled" on "trip.events" {}
    Taken = "seat.taken" on "seat.events" {}
    Freed = "seat.freed" on "seat.events" {}
    Expired = "seat.expired" on "seat.events" {}
}

impl Booked {
    /// With a random saga id.
    pub(crate) fn anew() -> Self {
        Self { id: Uuid::now_v7() }
    }
}

impl From<Cancelled> for Freed {
    fn from(why: Cancelled) -> Self {
        Self { id: why.id }
    }
}
