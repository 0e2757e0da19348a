//! Shipping's SQL, written once for both databases.

use saga_store::Migration;

/// Shipping's own tables.
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_shipments", sql: include_str!("../migrations/0001_shipments.sql") },
    Migration { name: "0002_collation", sql: include_str!("../migrations/0002_collation.sql") },
];

pub(crate) const INSERT: &str = "
    INSERT INTO shipments (order_id, status, tracking_number)
    SELECT r.order_id, r.status, r.tracking_number
    FROM :rows(order_id text, status text, tracking_number text) r";

pub(crate) const CANCEL: &str = "
    UPDATE shipments SET status = 'cancelled'
    WHERE order_id IN (SELECT r.order_id FROM :rows(order_id text) r)";

pub(crate) const SELECT: &str = "SELECT status, tracking_number FROM shipments WHERE order_id = $1";
