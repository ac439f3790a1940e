-- +goose Up

-- What was said about a change; empty: nothing.
ALTER TABLE orders
    ADD COLUMN payment_reference text NOT NULL DEFAULT '',
    ADD COLUMN carrier text NOT NULL DEFAULT '',
    ADD COLUMN tracking text NOT NULL DEFAULT '',
    ADD COLUMN cancel_reason text NOT NULL DEFAULT '';

-- The list of orders, newest first, all of them and by each filter.
CREATE INDEX orders_newest ON orders (created_at, id);
CREATE INDEX orders_of_customer ON orders (customer_id, created_at, id);
CREATE INDEX orders_of_status ON orders (status, created_at, id);

-- +goose Down
DROP INDEX orders_of_status;
DROP INDEX orders_of_customer;
DROP INDEX orders_newest;
ALTER TABLE orders
    DROP COLUMN cancel_reason,
    DROP COLUMN tracking,
    DROP COLUMN carrier,
    DROP COLUMN payment_reference;
