CREATE TABLE orders (
    order_id    text NOT NULL PRIMARY KEY,
    status      text NOT NULL CHECK (status IN ('pending', 'confirmed', 'cancelling', 'cancelled')),
    -- The first cause; kept from the moment the order stops being pending.
    reason      text,
    -- NULL for an order of which only the end has been seen yet: the events that end it overtook order.created.
    customer_id text,
    total_cents bigint,
    currency    text,
    -- The trace of the request that made the order, which a cancellation continues.
    traceparent text,
    tracestate  text,
    -- "<event> <time>" per line. Grows with the row it belongs to: under the same lock, so in the order of what happened.
    history     text NOT NULL,
    CHECK ((reason IS NOT NULL) = (status IN ('cancelling', 'cancelled')))
);

-- What was answered to a request that carried an Idempotency-Key.
CREATE TABLE idempotency_keys (
    key         text NOT NULL PRIMARY KEY,
    fingerprint text NOT NULL,
    order_id    text NOT NULL
);
