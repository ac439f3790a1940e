-- +goose NO TRANSACTION
-- +goose Up

-- When the relay passed recorded_position, all rows up to that position had been recorded at recorded_to or earlier. If a row up
-- to that position was recorded later, the sequence of outbox.position went back. NULL: not known. A relay of an earlier version
-- does not change these columns, and they stay true.
-- +goose StatementBegin
DO $$ BEGIN
    SET LOCAL lock_timeout = '100ms';
    ALTER TABLE outbox_cursor
        ADD COLUMN IF NOT EXISTS recorded_position bigint NOT NULL DEFAULT 0,
        ADD COLUMN IF NOT EXISTS recorded_to timestamptz DEFAULT 'epoch';
END $$;
-- +goose StatementEnd
UPDATE outbox_cursor AS c SET recorded_position = seen.position, recorded_to = seen.recorded_to
FROM (
    SELECT relay, position, coalesce((SELECT max(recorded_at) FROM outbox AS o WHERE o.position <= c.position
        AND o.recorded_at < '9999-12-31 00:00:00+00'), 'epoch') AS recorded_to
    FROM outbox_cursor AS c
) AS seen
WHERE c.relay = seen.relay;

-- This index finds rows that were recorded lately, and costs writers next to nothing. The index also has the positions, because a
-- search looks only for rows that the relay has passed. So the search skips the rows that the relay has not passed, however many
-- there are. An index that a failed attempt left behind is dropped first.
DROP INDEX CONCURRENTLY IF EXISTS outbox_recorded;
CREATE INDEX CONCURRENTLY outbox_recorded ON outbox USING brin (recorded_at, (position + 0)) WITH (autosummarize = on);

-- +goose Down
-- Lost: nothing that an earlier version of the program knows.
DROP INDEX CONCURRENTLY IF EXISTS outbox_recorded;
-- +goose StatementBegin
DO $$ BEGIN
    SET LOCAL lock_timeout = '100ms';
    ALTER TABLE outbox_cursor
        DROP COLUMN IF EXISTS recorded_to,
        DROP COLUMN IF EXISTS recorded_position;
END $$;
-- +goose StatementEnd
