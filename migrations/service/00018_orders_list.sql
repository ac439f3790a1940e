-- +goose NO TRANSACTION
-- +goose Up

-- The list of a customer's orders of one status. Writers go on while the index is built; an attempt that failed leaves an
-- invalid one behind.
DROP INDEX CONCURRENTLY IF EXISTS orders_of_customer_status;
CREATE INDEX CONCURRENTLY orders_of_customer_status ON orders (customer_id, status, created_at, id);

-- +goose Down
-- Lost: nothing.
DROP INDEX CONCURRENTLY IF EXISTS orders_of_customer_status;
