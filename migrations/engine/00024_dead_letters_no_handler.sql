-- +goose NO TRANSACTION
-- +goose Up

-- The letters that wait for a program with a handler of their type are found however many others there are.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_no_handler;
CREATE INDEX CONCURRENTLY dead_letters_no_handler ON dead_letters (subscriber, event_type) WHERE _no_handler;

-- +goose Down
-- Lost: nothing.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_no_handler;
