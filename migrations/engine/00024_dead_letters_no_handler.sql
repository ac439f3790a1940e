-- +goose NO TRANSACTION
-- +goose Up

-- This index finds the letters that wait for a program with a handler for their type, without reading other letters.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_no_handler;
CREATE INDEX CONCURRENTLY dead_letters_no_handler ON dead_letters (subscriber, event_type) WHERE _no_handler;

-- +goose Down
-- Lost: nothing.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_no_handler;
