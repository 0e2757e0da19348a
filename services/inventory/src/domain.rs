//! Divides a limited stock: first come, first served; an order gets all its items or none.

use std::collections::BTreeMap;

use order_flow_events::Item;

/// The largest quantity that can be set as available: far above any warehouse, and low enough that released units
/// cannot overflow it.
pub(crate) const MAX_AVAILABLE: i64 = 1_000_000_000_000;

/// The available units, and the units taken from them.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    available: BTreeMap<String, i64>,
    taken: BTreeMap<String, i64>,
}

impl Shelf {
    /// A SKU that is missing here is out of stock.
    pub(crate) fn holding(available: impl IntoIterator<Item = (String, i64)>) -> Self {
        Self { available: available.into_iter().collect(), taken: BTreeMap::new() }
    }

    /// Takes every item, or none.
    pub(crate) fn take(&mut self, items: &[Item]) -> bool {
        let is_there = |item: &Item| self.available.get(&item.sku).is_some_and(|left| *left >= item.quantity);
        if !items.iter().all(is_there) {
            return false;
        }
        for item in items {
            if let Some(left) = self.available.get_mut(&item.sku) {
                *left -= item.quantity;
                *self.taken.entry(item.sku.clone()).or_default() += item.quantity;
            }
        }
        true
    }

    /// The units taken, by SKU.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (&str, i64)> {
        self.taken.iter().map(|(sku, quantity)| (sku.as_str(), *quantity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> Shelf {
        Shelf::holding([("A".to_owned(), 5), ("B".to_owned(), 1)])
    }

    fn items<const N: usize>(wanted: [(&str, i64); N]) -> Vec<Item> {
        wanted.map(|(sku, quantity)| Item { sku: sku.to_owned(), quantity, unit_price_cents: 1 }).into()
    }

    #[test]
    fn orders_are_served_as_they_come_until_nothing_is_left() {
        let mut shelf = shelf();
        assert!(shelf.take(&items([("A", 3)])));
        assert!(!shelf.take(&items([("A", 3)])));
        assert!(shelf.take(&items([("A", 2)])));
        assert!(!shelf.take(&items([("A", 1)])));
        assert_eq!(shelf.taken().collect::<Vec<_>>(), [("A", 5)]);
    }

    #[test]
    fn an_order_with_a_missing_item_takes_nothing() {
        let mut shelf = shelf();
        assert!(!shelf.take(&items([("A", 5), ("B", 2)])));
        assert_eq!(shelf.taken().count(), 0);
        assert!(shelf.take(&items([("A", 5), ("B", 1)])));
    }

    #[test]
    fn an_unknown_sku_is_out_of_stock() {
        assert!(!shelf().take(&items([("A", 1), ("C", 1)])));
    }
}
