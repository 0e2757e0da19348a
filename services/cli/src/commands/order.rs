//! An order made from flags, with a default for every field.

use clap::Args;
use order_flow_events::{Address, Item, OrderCreated, total_of};
use uuid::Uuid;

/// The fields of an order that is given by flags.
#[derive(Args, Clone, PartialEq, Default, Debug)]
#[command(next_help_heading = "order.created, when it is not read from a file")]
pub(crate) struct OrderArgs {
    /// The customer [default: a new id]
    #[arg(long, value_name = "UUID")]
    customer_id: Option<Uuid>,
    /// The article [default: SKU-1]
    #[arg(long)]
    sku: Option<String>,
    /// The quantity [default: 1]
    #[arg(long, allow_negative_numbers = true)]
    quantity: Option<i64>,
    /// The price per unit, in minor units [default: 1999]
    #[arg(long, value_name = "CENTS", allow_negative_numbers = true)]
    unit_price_cents: Option<i64>,
    /// The currency (ISO 4217) [default: EUR]
    #[arg(long)]
    currency: Option<String>,
    /// The payment gateway's token; the sandbox knows tok_visa, tok_declined, tok_timeout and tok_flaky [default: tok_visa]
    #[arg(long, value_name = "TOKEN")]
    payment_method: Option<String>,
    /// The recipient [default: Ada Lovelace]
    #[arg(long)]
    name: Option<String>,
    /// Street and number [default: Main Street 1]
    #[arg(long)]
    street: Option<String>,
    /// Town [default: Berlin]
    #[arg(long)]
    city: Option<String>,
    /// Postal code [default: 10115]
    #[arg(long)]
    postal_code: Option<String>,
    /// The country (ISO 3166-1); orders to AQ are refused by shipping [default: DE]
    #[arg(long)]
    country: Option<String>,
}

impl OrderArgs {
    /// Whether no flag was given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The order, unchecked.
    pub(crate) fn order(self, order_id: Uuid) -> OrderCreated {
        let or = |given: Option<String>, default: &str| given.unwrap_or_else(|| default.to_owned());
        let items = vec![Item {
            sku: or(self.sku, "SKU-1"),
            quantity: self.quantity.unwrap_or(1),
            unit_price_cents: self.unit_price_cents.unwrap_or(1999),
        }];
        OrderCreated {
            order_id,
            customer_id: self.customer_id.unwrap_or_else(Uuid::now_v7),
            // The schema check refuses a total that overflows.
            total_cents: total_of(&items).unwrap_or(i64::MAX),
            items,
            currency: or(self.currency, "EUR"),
            payment_method: or(self.payment_method, "tok_visa"),
            shipping_address: Address {
                name: or(self.name, "Ada Lovelace"),
                street: or(self.street, "Main Street 1"),
                city: or(self.city, "Berlin"),
                postal_code: or(self.postal_code, "10115"),
                country: or(self.country, "DE"),
            },
        }
    }
}
