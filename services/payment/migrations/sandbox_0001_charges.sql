-- The ledger of the sandbox gateway: a charge per idempotency key, whatever the number of calls.
CREATE TABLE charges (
    idempotency_key text   NOT NULL PRIMARY KEY,
    order_id        text   NOT NULL,
    calls           bigint NOT NULL,
    state           text   NOT NULL CHECK (state IN ('open', 'captured', 'declined', 'void')),
    captured_cents  bigint NOT NULL,
    refunded_cents  bigint NOT NULL CHECK (refunded_cents BETWEEN 0 AND captured_cents)
);

CREATE INDEX charges_of_an_order ON charges (order_id);
