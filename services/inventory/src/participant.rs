//! The inventory's part in the flow: what it consumes, what it answers, what undoes it.

use order_flow_events::{PaymentDeclined, PaymentRefunded};
use saga_core::{Participant, Step};
use saga_store::Db;

use crate::handlers::{release, reserve};

/// `order.created` sets the items aside, or refuses; no money means they go back.
pub fn participant() -> Participant<Db> {
    let reserve = Step::new("reserve", reserve).undone_by(release);
    Participant::named("inventory").step(reserve.on::<(PaymentDeclined, PaymentRefunded)>())
}

#[cfg(test)]
mod tests;
