//! The order's part in the flow: it starts the saga, waits for its end, and limits the wait.

use std::time::Duration;

use order_flow_events::{
    InventoryRejected, InventoryReleased, OrderCancellationRequested, OrderCancelled, OrderConfirmed, OrderCreated,
    Reason,
};
use saga_core::{Participant, Step, Trigger};
use saga_store::Db;
use uuid::Uuid;

use crate::handlers::{cancel, confirm, expire, register};

/// An order that is neither confirmed nor cancelled within `deadline` after its registration is cancelled.
pub fn participant(deadline: Duration) -> Participant<Db> {
    Participant::named("order")
        .publishes::<OrderCreated>()
        .publishes::<OrderCancellationRequested>()
        .step(Step::new("register", register).deadline(deadline, expire))
        .step(Step::new("confirm", confirm).pivot())
        .step(Step::new("cancel", cancel))
        .completes_with::<OrderConfirmed>()
        .compensates_with::<OrderCancelled>()
}

/// Nothing is reserved, charged or scheduled for the saga, so the order can end.
#[derive(Clone, Debug, Trigger)]
#[trigger(fields(order_id: Uuid, reason: Reason))]
pub enum NothingHeld {
    /// Nothing was reserved.
    Rejected(InventoryRejected),
    /// Everything was compensated.
    Released(InventoryReleased),
}

#[cfg(test)]
mod tests;
