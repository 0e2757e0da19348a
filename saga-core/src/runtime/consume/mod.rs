//! From a record to an event that may start: read it, keep a saga's events in order, and keep track of offsets.

pub(crate) mod offsets;
pub(crate) mod read;
pub(crate) mod repeats;
pub(crate) mod saga_queues;
