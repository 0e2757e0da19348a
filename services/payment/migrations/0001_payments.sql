CREATE TABLE payments (
    order_id     text   NOT NULL PRIMARY KEY,
    status       text   NOT NULL CHECK (status IN ('charged', 'declined', 'refunded')),
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0)
);
