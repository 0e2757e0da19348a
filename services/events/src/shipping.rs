//! Events of the shipping service, on `shipping.events`.

use saga_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{order::OrderCancellationRequested, reason::Reason};

/// The parcel is scheduled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shipping.scheduled", topic = "shipping.events", saga = "order_id")]
pub struct ShippingScheduled {
    /// The order.
    pub order_id: Uuid,
    /// How to follow the parcel.
    pub tracking_number: String,
}

/// Shipping does not deliver to the address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shipping.rejected", topic = "shipping.events", saga = "order_id")]
pub struct ShippingRejected {
    /// The order.
    pub order_id: Uuid,
    /// Why.
    pub reason: Reason,
}

/// The shipment is cancelled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shipping.cancelled", topic = "shipping.events", saga = "order_id", from(OrderCancellationRequested))]
pub struct ShippingCancelled {
    /// The order.
    pub order_id: Uuid,
    /// Why the order is compensated.
    pub reason: Reason,
}
