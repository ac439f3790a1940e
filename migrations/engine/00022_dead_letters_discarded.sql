-- +goose NO TRANSACTION
-- +goose Up

-- Discarded letters are deleted in the order in which they were discarded. This index finds them without reading other letters.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_discarded;
CREATE INDEX CONCURRENTLY dead_letters_discarded ON dead_letters (subscriber, changed_at) WHERE state = 'discarded';

-- +goose Down
-- Lost: nothing.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_discarded;
