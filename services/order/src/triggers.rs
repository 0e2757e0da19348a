//! What starts a step of the order when several events may.

use order_flow_events::{InventoryRejected, InventoryReleased, Reason};
use saga_core::Trigger;
use uuid::Uuid;

/// Nothing is reserved, charged or scheduled for the saga, so the order can end.
#[derive(Clone, Debug, Trigger)]
#[trigger(fields(order_id: Uuid, reason: Reason))]
pub enum NothingHeld {
    /// Nothing was reserved.
    Rejected(InventoryRejected),
    /// Everything was compensated.
    Released(InventoryReleased),
}
