//! The events of a trip whose seat is taken and freed, for tests that need only their saga ids.

use saga_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.booked", topic = "trip.events", saga = "id")]
pub(crate) struct Booked {
    pub(crate) id: Uuid,
}

impl Booked {
    /// With a random saga id.
    pub(crate) fn anew() -> Self {
        Self { id: Uuid::now_v7() }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.cancelled", topic = "trip.events", saga = "id")]
pub(crate) struct Cancelled {
    pub(crate) id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.taken", topic = "seat.events", saga = "id")]
pub(crate) struct Taken {
    pub(crate) id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.freed", topic = "seat.events", saga = "id")]
pub(crate) struct Freed {
    pub(crate) id: Uuid,
}

impl From<Cancelled> for Freed {
    fn from(why: Cancelled) -> Self {
        Self { id: why.id }
    }
}
