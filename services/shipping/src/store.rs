//! Shipping's SQL, written once for both databases.

use saga_store::Migration;

/// Shipping's own tables.
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_shipments", sql: include_str!("../migrations/0001_shipments.sql") },
    Migration { name: "0002_collation", sql: include_str!("../migrations/0002_collation.sql") },
];

pub(crate) const INSERT: &str = "
    INSERT INTO shipments (order_id, status, tracking_number) VALUES ($1, $2, $3)";

pub(crate) const CANCEL: &str = "UPDATE shipments SET status = 'cancelled' WHERE order_id = $1";

pub(crate) const SELECT: &str = "SELECT status, tracking_number FROM shipments WHERE order_id = $1";
