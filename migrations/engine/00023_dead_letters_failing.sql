-- +goose NO TRANSACTION
-- +goose Up

-- Each batch asks whether programs of before left letters of events that were to come again. There may be many other letters.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_failing;
CREATE INDEX CONCURRENTLY dead_letters_failing ON dead_letters (subscriber) WHERE state = 'failing';

-- +goose Down
-- Lost: nothing.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_failing;
