-- +goose NO TRANSACTION
-- +goose Up

-- This index lists and counts the letters of a subscriber in each state, however many letters there are. The order is that of lists. No state
-- is empty: with this condition only statements that have it too can use the index, and the statements of lanes keep to dead_letters_of.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_listed;
CREATE INDEX CONCURRENTLY dead_letters_listed ON dead_letters (subscriber, state, position NULLS FIRST, first_failed_at)
    WHERE state <> 'discarded' AND state IS DISTINCT FROM '';

-- +goose Down
-- Lost: nothing.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_listed;
