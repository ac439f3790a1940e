-- +goose NO TRANSACTION
-- +goose Up

-- The letters of an aggregate are found by a hash of its type and id, and then compared. An index on type and id themselves
-- takes no entry above 2,704 bytes, so the letter of an aggregate with a longer id could not be kept. Postgres does not change
-- these hash functions in later versions, because partitioning by hash depends on them.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_of;
CREATE INDEX CONCURRENTLY dead_letters_of
    ON dead_letters (subscriber, hashtextextended(aggregate_id, hashtextextended(aggregate_type, 0)), position)
    WHERE state <> 'discarded';
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_aggregates;

-- A letter whose event id is longer than 255 bytes gets a digest of that id instead: see letterID in the Postgres adapter.
UPDATE dead_letters SET event_id = 'long-id-' || encode(sha256(convert_to(event_id, 'UTF8')), 'hex') WHERE octet_length(event_id) > 255;

-- +goose Down
-- Lost: nothing. It fails while a letter has an aggregate id of more than some 2,600 bytes.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_aggregates;
CREATE INDEX CONCURRENTLY dead_letters_aggregates ON dead_letters (subscriber, aggregate_type, aggregate_id, position)
    WHERE state <> 'discarded';
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_of;
