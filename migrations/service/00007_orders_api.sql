-- +goose NO TRANSACTION
-- +goose Up

-- The details of each change. Empty: none were given.
-- +goose StatementBegin
DO $$ BEGIN
    SET LOCAL lock_timeout = '100ms';
    ALTER TABLE orders
        ADD COLUMN IF NOT EXISTS payment_reference text NOT NULL DEFAULT '',
        ADD COLUMN IF NOT EXISTS carrier text NOT NULL DEFAULT '',
        ADD COLUMN IF NOT EXISTS tracking text NOT NULL DEFAULT '',
        ADD COLUMN IF NOT EXISTS cancel_reason text NOT NULL DEFAULT '';
END $$;
-- +goose StatementEnd

-- These indexes serve the list of orders, newest first: all orders, the orders of a customer, and the orders with a status.
DROP INDEX CONCURRENTLY IF EXISTS orders_newest;
CREATE INDEX CONCURRENTLY orders_newest ON orders (created_at, id);
DROP INDEX CONCURRENTLY IF EXISTS orders_of_customer;
CREATE INDEX CONCURRENTLY orders_of_customer ON orders (customer_id, created_at, id);
DROP INDEX CONCURRENTLY IF EXISTS orders_of_status;
CREATE INDEX CONCURRENTLY orders_of_status ON orders (status, created_at, id);

-- +goose Down
-- Lost: the payment reference, the carrier, the tracking number and the reason of the cancellation of every order.
-- +goose StatementBegin
DO $$ BEGIN
    SET LOCAL lock_timeout = '100ms';
    DROP INDEX IF EXISTS orders_of_status, orders_of_customer, orders_newest;
    ALTER TABLE orders
        DROP COLUMN IF EXISTS cancel_reason,
        DROP COLUMN IF EXISTS tracking,
        DROP COLUMN IF EXISTS carrier,
        DROP COLUMN IF EXISTS payment_reference;
END $$;
-- +goose StatementEnd
