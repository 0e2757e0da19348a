//! Shipping's part in the flow: what it consumes, what it answers, what undoes it.

use saga_core::{Participant, Step};
use saga_store::Db;

use crate::handlers::{cancel, schedule};

/// `payment.charged` sends the parcel, or refuses the address; a cancellation of the order enters the flow here.
pub fn participant() -> Participant<Db> {
    Participant::named("shipping").step(Step::new("schedule", schedule).undone_by(cancel))
}

#[cfg(test)]
mod tests;
