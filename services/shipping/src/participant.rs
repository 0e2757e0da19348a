//! Shipping's part in the flow: its step, its trigger and its compensation.

use saga_core::{Participant, Step};
use saga_store::Db;

use crate::handlers::{cancel, schedule};

/// `payment.charged` schedules the parcel, or is refused; a cancellation request enters the flow here.
pub fn participant() -> Participant<Db> {
    Participant::named("shipping").step(Step::new("schedule", schedule).undone_by(cancel))
}

#[cfg(test)]
mod tests;
