-- only PostgreSQL
-- Keys sort by their bytes, whatever the language of the database and the version of its C library.
ALTER TABLE stock ALTER COLUMN sku TYPE text COLLATE "C";
ALTER TABLE reservations
    ALTER COLUMN order_id TYPE text COLLATE "C",
    ALTER COLUMN sku TYPE text COLLATE "C";
