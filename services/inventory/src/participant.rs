//! The inventory's part in the flow: its step, its triggers and its compensation.

use order_flow_events::{InventoryReleased, PaymentDeclined, PaymentRefunded};
use saga_core::{Participant, Step, Trigger};
use saga_store::Db;

use crate::handlers::{release, reserve};

/// `order.created` reserves the items, or is refused; a declined or refunded payment releases them.
pub fn participant() -> Participant<Db> {
    Participant::named("inventory").step(Step::new("reserve", reserve).undone_by(release))
}

/// The payment was declined or refunded: the items are released.
#[derive(Clone, Debug, Trigger)]
#[trigger(into = InventoryReleased { order_id, reason })]
pub enum ItemsBack {
    /// The charge was refused.
    Declined(PaymentDeclined),
    /// The charge was refunded.
    Refunded(PaymentRefunded),
}

#[cfg(test)]
mod tests;
