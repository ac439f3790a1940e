-- +goose NO TRANSACTION
-- +goose Up

-- The list of a customer's orders with one status. Writers go on while the index is built. An invalid index that a failed
-- attempt left behind is dropped first.
DROP INDEX CONCURRENTLY IF EXISTS orders_of_customer_status;
CREATE INDEX CONCURRENTLY orders_of_customer_status ON orders (customer_id, status, created_at, id);

-- +goose Down
-- Lost: nothing.
DROP INDEX CONCURRENTLY IF EXISTS orders_of_customer_status;
