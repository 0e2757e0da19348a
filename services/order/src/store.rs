//! The order's SQL, written once for both databases. Every statement locks its rows in the order of their ids, so that
//! two statements wait for each other instead of deadlocking.

use saga_store::Migration;

/// The order service's own tables.
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_orders", sql: include_str!("../migrations/0001_orders.sql") },
    Migration { name: "0002_collation", sql: include_str!("../migrations/0002_collation.sql") },
];

/// A new order, from a request.
pub(crate) const CREATE: &str = "
    INSERT INTO orders (order_id, status, customer_id, total_cents, currency, traceparent, tracestate, history)
    VALUES ($1, 'pending', $2, $3, $4, $5, $6, $7)";

/// Registers an order from its event. An order created over HTTP exists already; an order whose end was observed first
/// gets its details.
pub(crate) const REGISTER: &str = "
    INSERT INTO orders (order_id, status, customer_id, total_cents, currency, traceparent, tracestate, history)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (order_id) DO UPDATE SET
        customer_id = excluded.customer_id, total_cents = excluded.total_cents, currency = excluded.currency,
        traceparent = excluded.traceparent, tracestate = excluded.tracestate,
        history = orders.history || excluded.history
    WHERE orders.total_cents IS NULL";

/// `$1` is appended to the history when the order is not confirmed; the rows bring the history for an order that is.
pub(crate) const CONFIRM: &str = "
    INSERT INTO orders (order_id, status, history)
    SELECT r.order_id, 'confirmed', r.history FROM :rows(order_id text, history text) r
    WHERE true ORDER BY r.order_id
    ON CONFLICT (order_id) DO UPDATE SET
        status = CASE orders.status WHEN 'pending' THEN 'confirmed' ELSE orders.status END,
        history = orders.history || CASE orders.status WHEN 'pending' THEN excluded.history ELSE CAST($1 AS text) END
    RETURNING order_id, status";

/// The first reason stays. Returns the orders that are cancelled now.
pub(crate) const CANCEL: &str = "
    INSERT INTO orders (order_id, status, reason, history)
    SELECT r.order_id, 'cancelled', r.reason, r.history FROM :rows(order_id text, reason text, history text) r
    WHERE true ORDER BY r.order_id
    ON CONFLICT (order_id) DO UPDATE SET
        status = 'cancelled', reason = coalesce(orders.reason, excluded.reason),
        history = orders.history || excluded.history
    WHERE orders.status <> 'confirmed'
    RETURNING order_id, reason";

pub(crate) const LOCK_PENDING: &str = "
    SELECT order_id FROM orders
    WHERE status = 'pending' AND order_id IN (SELECT r.order_id FROM :rows(order_id text) r)
    ORDER BY order_id :for_update";

/// For orders that are locked and pending.
pub(crate) const REQUEST_CANCELLATION: &str = "
    UPDATE orders SET status = 'cancelling', reason = $1, history = history || $2
    WHERE order_id IN (SELECT r.order_id FROM :rows(order_id text) r)";

pub(crate) const LOCK: &str = "SELECT status, traceparent, tracestate FROM orders WHERE order_id = $1 :for_update";

pub(crate) const SELECT: &str = "SELECT status, reason, total_cents, history FROM orders WHERE order_id = $1";

/// The request that inserts the key first creates the order; a second request waits until the first has committed.
pub(crate) const TAKE_KEY: &str = "
    INSERT INTO idempotency_keys (key, fingerprint, order_id) VALUES ($1, $2, $3)
    ON CONFLICT (key) DO NOTHING RETURNING key";

pub(crate) const SELECT_KEY: &str = "SELECT fingerprint, order_id FROM idempotency_keys WHERE key = $1";
