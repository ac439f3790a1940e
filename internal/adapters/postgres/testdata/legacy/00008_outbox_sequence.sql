-- +goose NO TRANSACTION
-- +goose Up

-- Rows up to recorded_position were recorded no later than recorded_to, but for those that came there after the relay had
-- passed: after the sequence of outbox.position went back. NULL: not known. A relay of an earlier version leaves both as they
-- are, and they stay true.
ALTER TABLE outbox_cursor
    ADD COLUMN IF NOT EXISTS recorded_position bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS recorded_to timestamptz DEFAULT 'epoch';
UPDATE outbox_cursor AS c SET recorded_position = seen.position, recorded_to = seen.recorded_to
FROM (
    SELECT relay, position, coalesce((SELECT max(recorded_at) FROM outbox AS o WHERE o.position <= c.position
        AND o.recorded_at < '9999-12-31 00:00:00+00'), 'epoch') AS recorded_to
    FROM outbox_cursor AS c
) AS seen
WHERE c.relay = seen.relay;

-- It finds what was recorded lately, and costs a writer next to nothing. With the
-- positions, it leaves a backlog out, however long that is. One that was left unfinished is made again.
DROP INDEX CONCURRENTLY IF EXISTS outbox_recorded;
CREATE INDEX CONCURRENTLY outbox_recorded ON outbox USING brin (recorded_at, (position + 0)) WITH (autosummarize = on);

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS outbox_recorded;
ALTER TABLE outbox_cursor
    DROP COLUMN IF EXISTS recorded_to,
    DROP COLUMN IF EXISTS recorded_position;
