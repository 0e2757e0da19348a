//! Events of the shipping service, on `shipping.events`.

use saga_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{order::OrderCancellationRequested, reason::Reason};

/// The parcel is on its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shipping.scheduled", topic = "shipping.events", saga = "order_id")]
pub struct ShippingScheduled {
    /// The order.
    pub order_id: Uuid,
    /// How to follow the parcel.
    pub tracking_number: String,
}

/// Nobody ships there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shipping.rejected", topic = "shipping.events", saga = "order_id")]
pub struct ShippingRejected {
    /// The order.
    pub order_id: Uuid,
    /// Why.
    pub reason: Reason,
}

/// Nothing will be shipped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shipping.cancelled", topic = "shipping.events", saga = "order_id")]
pub struct ShippingCancelled {
    /// The order.
    pub order_id: Uuid,
    /// What started the undoing.
    pub reason: Reason,
}

/// Also what is published when there was no parcel to stop.
impl From<OrderCancellationRequested> for ShippingCancelled {
    fn from(request: OrderCancellationRequested) -> Self {
        Self { order_id: request.order_id, reason: request.reason }
    }
}
