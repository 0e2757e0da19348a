//! What an operator sees of a participant: its metrics, its spans and its readiness.

pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod spans;
