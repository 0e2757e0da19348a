CREATE TABLE shipments (
    order_id        text NOT NULL PRIMARY KEY,
    status          text NOT NULL CHECK (status IN ('scheduled', 'rejected', 'cancelled')),
    tracking_number text
);
