-- +goose Up

-- Events that the broker can never take, and the later events of the same aggregate. A row waits while its state is parked or
-- redrive. The row stays until retention removes its event from the log. The relay skips every event that has a row here.
CREATE TABLE outbox_parked (
    position        bigint PRIMARY KEY,
    event_id        uuid NOT NULL,
    aggregate_type  text NOT NULL,
    aggregate_id    text NOT NULL,
    event_type      text NOT NULL,
    reason          text NOT NULL,
    state           text NOT NULL CHECK (state IN ('parked', 'redrive', 'redriven', 'discarded')),
    stream_sequence bigint, -- the sequence of the message with the redriven event
    parked_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'redriven') = (stream_sequence IS NOT NULL))
);
CREATE INDEX outbox_parked_waiting ON outbox_parked (position) WHERE state IN ('parked', 'redrive');
CREATE INDEX outbox_parked_redrive ON outbox_parked (position) WHERE state = 'redrive';
CREATE INDEX outbox_parked_waiting_of ON outbox_parked (aggregate_type, aggregate_id, position)
    WHERE state IN ('parked', 'redrive');
CREATE INDEX outbox_parked_parked_of ON outbox_parked (aggregate_type, aggregate_id, position) WHERE state = 'parked';
CREATE INDEX outbox_parked_redriven ON outbox_parked (stream_sequence) WHERE state = 'redriven';
CREATE INDEX outbox_parked_done ON outbox_parked (changed_at) WHERE state IN ('redriven', 'discarded');

-- revision counts the relay's writes: a late write finds another number, and changes nothing. The first write may come before
-- the relay has a cursor, so position and stream_sequence get defaults. passed is the position that the cursor had reached at
-- passed_at. For retention, the age of the events up to passed begins at passed_at.
ALTER TABLE outbox_cursor
    ADD COLUMN revision bigint NOT NULL DEFAULT 0,
    ADD COLUMN passed bigint,
    ADD COLUMN passed_at timestamptz,
    ADD COLUMN halt_reason text,
    ADD COLUMN halt_detail text,
    ADD COLUMN halted_at timestamptz,
    ALTER COLUMN position SET DEFAULT 0,
    ALTER COLUMN stream_sequence SET DEFAULT 0;

-- +goose Down
-- Lost: which events are parked or were discarded, and the reason for which each relay is halted.
ALTER TABLE outbox_cursor
    ALTER COLUMN stream_sequence DROP DEFAULT,
    ALTER COLUMN position DROP DEFAULT,
    DROP COLUMN halted_at,
    DROP COLUMN halt_detail,
    DROP COLUMN halt_reason,
    DROP COLUMN passed_at,
    DROP COLUMN passed,
    DROP COLUMN revision;
DROP TABLE outbox_parked;
