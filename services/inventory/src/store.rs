//! The inventory's SQL, written once for both databases.

use saga_store::Migration;

/// The inventory's own tables.
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_stock", sql: include_str!("../migrations/0001_stock.sql") },
    Migration { name: "0002_collation", sql: include_str!("../migrations/0002_collation.sql") },
];

/// Locks rows in the order of their SKUs: two batches that want the same SKUs wait for each other instead of
/// deadlocking.
pub(crate) const LOCK_STOCK: &str = "
    SELECT sku, available FROM stock
    WHERE sku IN (SELECT r.sku FROM :rows(sku text) r)
    ORDER BY sku :for_update";

pub(crate) const INSERT_RESERVATIONS: &str = "
    INSERT INTO reservations (order_id, sku, quantity)
    SELECT r.order_id, r.sku, r.quantity FROM :rows(order_id text, sku text, quantity bigint) r";

/// Moves units from available to reserved; a negative quantity moves them back.
pub(crate) const MOVE_TO_RESERVED: &str = "
    UPDATE stock SET available = stock.available - r.quantity, reserved = stock.reserved + r.quantity
    FROM :rows(sku text, quantity bigint) r
    WHERE stock.sku = r.sku";

pub(crate) const DELETE_RESERVATIONS: &str = "
    DELETE FROM reservations WHERE order_id IN (SELECT r.order_id FROM :rows(order_id text) r)
    RETURNING sku, quantity";

pub(crate) const SET_AVAILABLE: &str = "
    INSERT INTO stock (sku, available, reserved) VALUES ($1, $2, 0)
    ON CONFLICT (sku) DO UPDATE SET available = excluded.available
    RETURNING available, reserved";

pub(crate) const SELECT_STOCK: &str = "SELECT available, reserved FROM stock WHERE sku = $1";
