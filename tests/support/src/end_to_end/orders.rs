//! Orders, and the events that a foreign program would publish by hand.

use std::borrow::Cow;

use saga_core::record::{Header, OutRecord};
use serde_json::{Value, json};
use uuid::Uuid;

/// An order of one SKU that is valid as it stands.
#[derive(Clone, Debug)]
pub struct Order {
    /// Tells this order's records from all others.
    pub customer: Uuid,
    /// What is ordered.
    pub sku: String,
    /// How many of it.
    pub quantity: i64,
    /// Which answer the gateway gives.
    pub card: &'static str,
    /// Where it goes.
    pub country: &'static str,
}

/// In minor units, for one of anything.
pub const PRICE: i64 = 1999;

impl Order {
    /// So many of this SKU, by `tok_visa`, to Germany.
    pub fn of(sku: &str, quantity: i64) -> Self {
        Self { customer: Uuid::new_v4(), sku: sku.to_owned(), quantity, card: "tok_visa", country: "DE" }
    }

    /// With another payment method.
    #[must_use]
    pub fn paid_by(mut self, card: &'static str) -> Self {
        self.card = card;
        self
    }

    /// To another country.
    #[must_use]
    pub fn shipped_to(mut self, country: &'static str) -> Self {
        self.country = country;
        self
    }

    /// What it costs.
    pub fn total_cents(&self) -> i64 {
        self.quantity * PRICE
    }

    /// The body of `POST /orders`.
    pub fn body(&self) -> Value {
        json!({
            "customer_id": self.customer,
            "items": [{"sku": self.sku, "quantity": self.quantity, "unit_price_cents": PRICE}],
            "currency": "EUR",
            "payment_method": self.card,
            "shipping_address": {
                "name": "Ada", "street": "Main Street 1", "city": "Berlin", "postal_code": "10115",
                "country": self.country,
            },
        })
    }

    /// The data of `order.created`.
    pub fn created(&self, order_id: Uuid) -> Value {
        let mut data = self.body();
        data["order_id"] = json!(order_id);
        data["total_cents"] = json!(self.total_cents());
        data
    }

    /// The data of `inventory.reserved`.
    pub fn reserved(&self, order_id: Uuid) -> Value {
        let body = self.body();
        json!({
            "order_id": order_id,
            "amount_cents": self.total_cents(),
            "currency": body["currency"],
            "payment_method": body["payment_method"],
            "shipping_address": body["shipping_address"],
        })
    }
}

/// A SKU that no other test has.
pub fn sku() -> String {
    format!("SKU-{}", Uuid::new_v4().simple())
}

/// An event as the least demanding foreign program writes it: a type, a key and data. The topic follows from the type.
pub fn event(event_type: &str, key: Uuid, data: &Value) -> OutRecord {
    let topic = format!("{}.events", event_type.split('.').next().unwrap_or_default());
    OutRecord {
        topic: Cow::Owned(topic),
        key: Some(key.to_string().into_bytes()),
        value: Some(data.to_string().into_bytes()),
        headers: vec![Header::text("ce_type", event_type.to_owned())],
    }
}

/// The record with one more header.
#[must_use]
pub fn with_header(mut record: OutRecord, name: &'static str, value: impl Into<String>) -> OutRecord {
    record.headers.push(Header::text(name, value));
    record
}
