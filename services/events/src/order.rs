//! Events of the order service, on `order.events`.

use saga_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{reason::Reason, rules};

/// A customer has placed an order: the saga starts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "order.created", topic = "order.events", saga = "order_id", validate = "rules::check_order")]
pub struct OrderCreated {
    /// The order, which is also the saga.
    pub order_id: Uuid,
    /// The customer.
    pub customer_id: Uuid,
    /// The ordered items; each SKU once.
    #[schemars(length(min = 1, max = 100))]
    pub items: Vec<Item>,
    /// The sum of all items, in minor units.
    #[schemars(range(min = 0))]
    pub total_cents: i64,
    /// ISO 4217.
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// The payment gateway's token.
    #[schemars(length(min = 1))]
    pub payment_method: String,
    /// The delivery address.
    pub shipping_address: Address,
}

/// A line of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// The article.
    #[schemars(length(min = 1, max = 64))]
    pub sku: String,
    /// The quantity.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub quantity: i64,
    /// The price per unit, in minor units.
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub unit_price_cents: i64,
}

/// A delivery address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// The recipient.
    pub name: String,
    /// Street and number.
    pub street: String,
    /// Town.
    pub city: String,
    /// Postal code.
    pub postal_code: String,
    /// ISO 3166-1, two letters.
    #[schemars(regex(pattern = "^[A-Z]{2}$"))]
    pub country: String,
}

/// The customer or the deadline cancels the order. Compensation starts with the last step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "order.cancellation_requested", topic = "order.events", saga = "order_id")]
pub struct OrderCancellationRequested {
    /// The order.
    pub order_id: Uuid,
    /// Why it is cancelled. Absent means: by the customer.
    #[serde(default = "by_customer")]
    pub reason: Reason,
}

fn by_customer() -> Reason {
    Reason::CancelledByCustomer
}

/// Reserved, charged and scheduled: the saga is completed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "order.confirmed", topic = "order.events", saga = "order_id")]
pub struct OrderConfirmed {
    /// The order.
    pub order_id: Uuid,
    /// The parcel's tracking number.
    pub tracking_number: String,
}

/// Every step of the order is compensated: the saga has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "order.cancelled", topic = "order.events", saga = "order_id")]
pub struct OrderCancelled {
    /// The order.
    pub order_id: Uuid,
    /// The first reason.
    pub reason: Reason,
}
