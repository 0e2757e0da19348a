//! The sandbox gateway's SQL, written once for both databases.

use saga_store::Migration;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_charges", sql: include_str!("../../migrations/sandbox_0001_charges.sql") },
    Migration { name: "0002_collation", sql: include_str!("../../migrations/sandbox_0002_collation.sql") },
];

/// Inserts the entry if it is missing, so that it can be locked.
pub(super) const OPEN: &str = "
    INSERT INTO charges (idempotency_key, order_id, calls, state, captured_cents, refunded_cents)
    SELECT r.idempotency_key, r.order_id, 0, 'open', 0, 0 FROM :rows(idempotency_key text, order_id text) r
    WHERE true ORDER BY r.idempotency_key
    ON CONFLICT (idempotency_key) DO NOTHING";

pub(super) const LOCK: &str = "
    SELECT idempotency_key, calls, state, captured_cents, refunded_cents FROM charges
    WHERE idempotency_key IN (SELECT r.idempotency_key FROM :rows(idempotency_key text, order_id text) r)
    ORDER BY idempotency_key :for_update";

pub(super) const WRITE: &str = "
    UPDATE charges
    SET calls = r.calls, state = r.state, captured_cents = r.captured_cents, refunded_cents = r.refunded_cents
    FROM :rows(
        idempotency_key text, calls bigint, state text, captured_cents bigint, refunded_cents bigint
    ) r
    WHERE charges.idempotency_key = r.idempotency_key";

pub(super) const OF_ORDER: &str = "
    SELECT idempotency_key, calls, captured_cents, refunded_cents FROM charges
    WHERE order_id = $1 ORDER BY idempotency_key";
