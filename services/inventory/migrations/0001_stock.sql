CREATE TABLE stock (
    sku       text   NOT NULL PRIMARY KEY,
    available bigint NOT NULL CHECK (available >= 0),
    reserved  bigint NOT NULL CHECK (reserved >= 0)
);

-- What is set aside for an order. A row that is released is deleted, so nothing can be given back twice.
CREATE TABLE reservations (
    order_id text   NOT NULL,
    sku      text   NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);
