//! The events that {name} consumes and publishes: its contract. Events of others are declared as far as they are read.

use saga::prelude::*;

/// Somebody asks for something: it starts the saga.
#[saga_event(name = "request.made", topic = "request.events", saga = "request_id")]
pub struct RequestMade {
    pub request_id: Uuid,
    pub quantity: i64,
}

/// A participant that comes later could not do its part: what {name} did is to be undone.
#[saga_event(
    name = "request.cancelled",
    topic = "request.events",
    saga = "request_id"
)]
pub struct RequestCancelled {
    pub request_id: Uuid,
}

#[saga_event(name = "{name}.reserved", topic = "{name}.events", saga = "request_id")]
pub struct Reserved {
    pub request_id: Uuid,
}

#[saga_event(name = "{name}.rejected", topic = "{name}.events", saga = "request_id")]
pub struct Rejected {
    pub request_id: Uuid,
    pub reason: String,
}

#[saga_event(name = "{name}.released", topic = "{name}.events", saga = "request_id")]
pub struct Released {
    pub request_id: Uuid,
}

/// Also when there was nothing to undo.
impl From<RequestCancelled> for Released {
    fn from(why: RequestCancelled) -> Self {
        Self {
            request_id: why.request_id,
        }
    }
}
