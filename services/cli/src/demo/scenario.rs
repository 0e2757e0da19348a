//! The demo's scenarios: what to order, and how the order should end.

use order_flow_events::{Address, Item, OrderCreated, Reason, total_of};
use serde::Serialize;
use uuid::Uuid;

/// Articles in stock, with prices in cents.
pub(crate) const SHELF: [(&str, i64); 3] = [("TEA-SENCHA", 1290), ("MUG-BLUE", 990), ("KETTLE-1L", 4990)];
/// An article with a stock of one, ordered twice.
pub(crate) const SCARCE: (&str, i64) = ("TEAPOT-GOLD", 19900);

/// A scenario: the expected ending of an order and its cause.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scenario {
    Confirmed,
    FlakyThenCharged,
    OutOfStock,
    CardDeclined,
    GatewayDown,
    Unshippable,
    CancelledByCustomer,
    PastDeadline,
}

impl Scenario {
    pub(crate) const ALL: [Self; 8] = [
        Self::Confirmed,
        Self::FlakyThenCharged,
        Self::OutOfStock,
        Self::CardDeclined,
        Self::GatewayDown,
        Self::Unshippable,
        Self::CancelledByCustomer,
        Self::PastDeadline,
    ];

    /// The name shown in the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::FlakyThenCharged => "flaky card, then charged",
            Self::OutOfStock => "out of stock",
            Self::CardDeclined => "card declined",
            Self::GatewayDown => "gateway down for good",
            Self::Unshippable => "unshippable",
            Self::CancelledByCustomer => "cancelled by the customer",
            Self::PastDeadline => "past its deadline",
        }
    }

    /// The reason of the cancellation; none for confirmed orders.
    pub(crate) fn reason(self) -> Option<Reason> {
        match self {
            Self::Confirmed | Self::FlakyThenCharged => None,
            Self::OutOfStock => Some(Reason::OutOfStock),
            Self::CardDeclined => Some(Reason::PaymentDeclined),
            Self::GatewayDown => Some(Reason::PaymentUnavailable),
            Self::Unshippable => Some(Reason::Unshippable),
            Self::CancelledByCustomer => Some(Reason::CancelledByCustomer),
            Self::PastDeadline => Some(Reason::Deadline),
        }
    }

    /// Share per thousand orders; the rest is confirmed.
    fn per_mille(self) -> usize {
        match self {
            Self::Confirmed => 0,
            Self::FlakyThenCharged => 50,
            Self::OutOfStock | Self::CardDeclined => 80,
            Self::GatewayDown | Self::PastDeadline => 25,
            Self::Unshippable | Self::CancelledByCustomer => 60,
        }
    }

    /// The order's content, varied by `n`.
    pub(crate) fn basket(self, n: usize) -> Basket {
        let item =
            |(sku, unit_price_cents): (&str, i64), quantity| Item { sku: sku.to_owned(), quantity, unit_price_cents };
        let more = [1, 2, 3][n % 3];
        let mut items = vec![item(SHELF[n % SHELF.len()], more)];
        if n % 2 == 1 {
            items.push(item(SHELF[(n + 1) % SHELF.len()], 1));
        }
        if self == Self::OutOfStock {
            items.push(item(SCARCE, 2));
        }
        let payment_method = match self {
            Self::FlakyThenCharged => "tok_flaky",
            Self::CardDeclined => "tok_declined",
            Self::GatewayDown => "tok_timeout",
            _ => "tok_visa",
        };
        Basket {
            customer_id: Uuid::now_v7(),
            items,
            currency: "EUR".to_owned(),
            payment_method: payment_method.to_owned(),
            shipping_address: address(if self == Self::Unshippable { "AQ" } else { "DE" }),
        }
    }
}

fn address(country: &str) -> Address {
    let (street, city, postal_code) = match country {
        "AQ" => ("McMurdo Road 1", "McMurdo Station", "96599"),
        _ => ("Main Street 1", "Berlin", "10115"),
    };
    Address {
        name: "Ada Lovelace".to_owned(),
        street: street.to_owned(),
        city: city.to_owned(),
        postal_code: postal_code.to_owned(),
        country: country.to_owned(),
    }
}

/// The body of `POST /orders`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Basket {
    customer_id: Uuid,
    items: Vec<Item>,
    currency: String,
    payment_method: String,
    shipping_address: Address,
}

impl Basket {
    /// The same order as an event.
    pub(crate) fn into_event(self, order_id: Uuid) -> OrderCreated {
        let Self { customer_id, items, currency, payment_method, shipping_address } = self;
        // A basket of the demo cannot overflow.
        let total_cents = total_of(&items).unwrap_or(i64::MAX);
        OrderCreated { order_id, customer_id, items, total_cents, currency, payment_method, shipping_address }
    }
}

/// The number of orders per scenario: at least one each, and the rest confirmed.
pub(crate) fn mix(orders: usize) -> Vec<(Scenario, usize)> {
    let count = |scenario: Scenario| (orders * scenario.per_mille() / 1000).max(1);
    let others: usize = Scenario::ALL.iter().filter(|e| **e != Scenario::Confirmed).map(|e| count(*e)).sum();
    let confirmed = orders.saturating_sub(others).max(1);
    Scenario::ALL.map(|e| (e, if e == Scenario::Confirmed { confirmed } else { count(e) })).to_vec()
}

/// The scenarios in the order of placement: mixed evenly, with the slowest ones first.
pub(crate) fn sequence(mix: &[(Scenario, usize)]) -> Vec<Scenario> {
    let mut placed = Vec::new();
    for &(scenario, count) in mix {
        for i in 0..count {
            let slow = scenario == Scenario::GatewayDown;
            // The middle of the i-th of `count` equal parts, scaled so that integer division is exact enough.
            let place = if slow { 0 } else { (2 * i + 1) * 1_000_000 / (2 * count) + 1 };
            placed.push((place, scenario));
        }
    }
    placed.sort_unstable();
    placed.into_iter().map(|(_, scenario)| scenario).collect()
}

#[cfg(test)]
mod tests {
    use saga_core::Event;

    use super::*;

    #[test]
    fn every_ending_has_its_orders_and_most_are_confirmed() {
        for orders in [8, 9, 80, 1000] {
            let mix = mix(orders);
            assert_eq!(mix.iter().map(|(_, n)| n).sum::<usize>(), orders);
            assert!(mix.iter().all(|(_, n)| *n > 0));
        }
        assert!(mix(80)[0].1 > 40);
    }

    #[test]
    fn the_slow_ones_are_placed_first() {
        let sequence = sequence(&mix(80));
        assert_eq!(sequence.len(), 80);
        assert_eq!(sequence[..2], [Scenario::GatewayDown; 2]);
        assert_ne!(sequence[2], Scenario::GatewayDown);
    }

    #[test]
    fn every_basket_is_a_valid_order() {
        for (n, scenario) in Scenario::ALL.into_iter().cycle().take(48).enumerate() {
            assert_eq!(scenario.basket(n).into_event(Uuid::now_v7()).validate(), Ok(()));
        }
    }
}
