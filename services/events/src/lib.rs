//! The events of the order flow: one file per topic.
//!
//! | file | topic | events |
//! |---|---|---|
//! | `order.rs` | `order.events` | `order.created`, `order.cancellation_requested`, `order.confirmed`, `order.cancelled` |
//! | `inventory.rs` | `inventory.events` | `inventory.reserved`, `inventory.rejected`, `inventory.released` |
//! | `payment.rs` | `payment.events` | `payment.charged`, `payment.declined`, `payment.refunded` |
//! | `shipping.rs` | `shipping.events` | `shipping.scheduled`, `shipping.rejected`, `shipping.cancelled` |
//!
//! Every event carries the order's id, which is the saga's id, and exactly the data that its consumers need: the amount and
//! the payment method are in `inventory.reserved`, the address is also in `payment.charged`. Refusals and compensations
//! carry the [`Reason`] from the participant that refused to the order service.

mod inventory;
mod order;
mod payment;
mod reason;
mod rules;
mod shipping;

pub use inventory::{InventoryRejected, InventoryReleased, InventoryReserved};
pub use order::{Address, Item, OrderCancellationRequested, OrderCancelled, OrderConfirmed, OrderCreated};
pub use payment::{PaymentCharged, PaymentDeclined, PaymentRefunded};
pub use reason::{Reason, UnknownReason};
pub use rules::{check_sku, total_of};
pub use shipping::{ShippingCancelled, ShippingRejected, ShippingScheduled};
