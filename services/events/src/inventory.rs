//! Events of the inventory service, on `inventory.events`.

use saga_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    order::Address,
    payment::{PaymentDeclined, PaymentRefunded},
    reason::Reason,
    rules,
};

/// Every item is reserved. Carries the data that payment and shipping need.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "inventory.reserved", topic = "inventory.events", saga = "order_id", validate = "amount_is_positive")]
pub struct InventoryReserved {
    /// The order.
    pub order_id: Uuid,
    /// What is to be charged, in minor units.
    #[schemars(range(min = 0))]
    pub amount_cents: i64,
    /// ISO 4217.
    pub currency: String,
    /// The payment gateway's token.
    pub payment_method: String,
    /// Where the goods go.
    pub shipping_address: Address,
}

fn amount_is_positive(event: &InventoryReserved) -> Result<(), String> {
    rules::check_amount(event.amount_cents)
}

/// An item is out of stock; nothing is reserved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "inventory.rejected", topic = "inventory.events", saga = "order_id")]
pub struct InventoryRejected {
    /// The order.
    pub order_id: Uuid,
    /// Why.
    pub reason: Reason,
}

/// The reserved items are available again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    name = "inventory.released",
    topic = "inventory.events",
    saga = "order_id",
    from(PaymentDeclined, PaymentRefunded)
)]
pub struct InventoryReleased {
    /// The order.
    pub order_id: Uuid,
    /// Why the order is compensated.
    pub reason: Reason,
}
