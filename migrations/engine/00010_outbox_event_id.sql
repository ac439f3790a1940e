-- +goose NO TRANSACTION
-- +goose Up

-- Subscribers take an event id once, so a second row with the same one would be lost. Writers go on while the index is built;
-- an attempt that failed leaves an invalid one behind.
DROP INDEX CONCURRENTLY IF EXISTS outbox_event_id;
CREATE UNIQUE INDEX CONCURRENTLY outbox_event_id ON outbox (event_id);

-- +goose Down
-- Lost: nothing. Several events may have the same id again.
DROP INDEX CONCURRENTLY IF EXISTS outbox_event_id;
