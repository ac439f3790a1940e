-- +goose NO TRANSACTION
-- +goose Up

-- Subscribers apply an event id once, so a second row with the same id would be lost. Writers go on while the index is built.
-- An invalid index that a failed attempt left behind is dropped first.
DROP INDEX CONCURRENTLY IF EXISTS outbox_event_id;
CREATE UNIQUE INDEX CONCURRENTLY outbox_event_id ON outbox (event_id);

-- +goose Down
-- Lost: nothing. Several events may have the same id again.
DROP INDEX CONCURRENTLY IF EXISTS outbox_event_id;
