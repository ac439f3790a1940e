-- +goose NO TRANSACTION
-- +goose Up

-- This index lists and counts the letters of a subscriber in each state, however many letters there are. The order is that of lists.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_listed;
CREATE INDEX CONCURRENTLY dead_letters_listed ON dead_letters (subscriber, state, position NULLS FIRST, first_failed_at)
    WHERE state <> 'discarded';

-- +goose Down
-- Lost: nothing.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_listed;
