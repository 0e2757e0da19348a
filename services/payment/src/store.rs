//! The payment's SQL, written once for both databases.

use saga_store::Migration;

/// The payment's own tables.
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_payments", sql: include_str!("../migrations/0001_payments.sql") },
    Migration { name: "0002_collation", sql: include_str!("../migrations/0002_collation.sql") },
];

pub(crate) const INSERT: &str = "
    INSERT INTO payments (order_id, status, amount_cents) VALUES ($1, $2, $3)";

pub(crate) const REFUND: &str = "UPDATE payments SET status = 'refunded' WHERE order_id = $1";

pub(crate) const SELECT: &str = "SELECT status, amount_cents FROM payments WHERE order_id = $1";
