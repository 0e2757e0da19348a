-- only PostgreSQL
-- Keys sort by their bytes, whatever the language of the database and the version of its C library.
ALTER TABLE shipments ALTER COLUMN order_id TYPE text COLLATE "C";
