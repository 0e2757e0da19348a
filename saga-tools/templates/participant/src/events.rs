//! The contract of {name}: the events that it consumes and publishes. Of other participants' events, only the fields that are read.

use saga::prelude::*;

/// A request, which starts the saga.
#[saga_event(name = "request.made", topic = "request.events", saga = "request_id")]
pub struct RequestMade {
    pub request_id: Uuid,
    pub quantity: i64,
}

/// A later participant has refused, so {name} compensates its step.
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

/// `from` copies the fields of the event that started the compensation, by name.
#[saga_event(
    name = "{name}.released",
    topic = "{name}.events",
    saga = "request_id",
    from(RequestCancelled)
)]
pub struct Released {
    pub request_id: Uuid,
}
