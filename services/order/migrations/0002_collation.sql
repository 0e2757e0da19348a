-- only PostgreSQL
-- Keys sort by their bytes. The order of a language changes with the C library, and a unique index that was made under
-- another order lets the same key in twice.
ALTER TABLE orders ALTER COLUMN order_id TYPE text COLLATE "C";
ALTER TABLE idempotency_keys ALTER COLUMN key TYPE text COLLATE "C";
