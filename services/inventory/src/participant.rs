//! The inventory's part in the flow: what it consumes, what it answers, what undoes it.

use order_flow_events::{InventoryReleased, PaymentDeclined, PaymentRefunded};
use saga_core::{Participant, Step, Trigger};
use saga_store::Db;

use crate::handlers::{release, reserve};

/// `order.created` sets the items aside, or refuses; no money means they go back.
pub fn participant() -> Participant<Db> {
    Participant::named("inventory").step(Step::new("reserve", reserve).undone_by(release))
}

/// No money was taken, or it was given back: the items are free again.
#[derive(Clone, Debug, Trigger)]
#[trigger(into = InventoryReleased { order_id, reason })]
pub enum ItemsBack {
    /// The charge was refused.
    Declined(PaymentDeclined),
    /// The charge was undone.
    Refunded(PaymentRefunded),
}

#[cfg(test)]
mod tests;
