//! The payment's SQL, written once for both databases.

use saga_store::Migration;

/// The payment's own tables.
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_payments", sql: include_str!("../migrations/0001_payments.sql") },
    Migration { name: "0002_collation", sql: include_str!("../migrations/0002_collation.sql") },
];

pub(crate) const INSERT: &str = "
    INSERT INTO payments (order_id, status, amount_cents)
    SELECT r.order_id, r.status, r.amount_cents FROM :rows(order_id text, status text, amount_cents bigint) r";

pub(crate) const REFUND: &str = "
    UPDATE payments SET status = 'refunded'
    WHERE order_id IN (SELECT r.order_id FROM :rows(order_id text) r)";

pub(crate) const SELECT: &str = "SELECT status, amount_cents FROM payments WHERE order_id = $1";
