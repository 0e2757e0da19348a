//! Events of the payment service, on `payment.events`.

use saga_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    order::Address,
    reason::Reason,
    shipping::{ShippingCancelled, ShippingRejected},
};

/// The customer has paid. Carries what shipping needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "payment.charged", topic = "payment.events", saga = "order_id")]
pub struct PaymentCharged {
    /// The order.
    pub order_id: Uuid,
    /// Where the goods go.
    pub shipping_address: Address,
}

/// Nothing was charged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "payment.declined", topic = "payment.events", saga = "order_id")]
pub struct PaymentDeclined {
    /// The order.
    pub order_id: Uuid,
    /// Refused, or unavailable.
    pub reason: Reason,
}

/// The charge was refunded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    name = "payment.refunded",
    topic = "payment.events",
    saga = "order_id",
    from(ShippingRejected, ShippingCancelled)
)]
pub struct PaymentRefunded {
    /// The order.
    pub order_id: Uuid,
    /// Why the order is compensated.
    pub reason: Reason,
}
