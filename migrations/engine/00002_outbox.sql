-- +goose Up

-- The append-only log. Nothing is ever updated here. CACHE 1, because a cached sequence gives out positions out of
-- order. A position is given out before its transaction commits: read docs/engine.md before you read this table by position.
CREATE TABLE outbox (
    position          bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    event_id          uuid NOT NULL,
    aggregate_type    text NOT NULL,
    aggregate_id      text NOT NULL,
    aggregate_version bigint NOT NULL CHECK (aggregate_version > 0),
    event_type        text NOT NULL,
    subject           text NOT NULL,
    headers           jsonb NOT NULL DEFAULT '{}', -- an object of strings
    payload           json NOT NULL, -- json, not jsonb: kept byte for byte
    recorded_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (aggregate_type, aggregate_id, aggregate_version),
    CHECK (jsonb_typeof(headers) = 'object' AND NOT jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")'))
);

-- Which instance leads, and until when. The token rises with each term, and fences the leader's writes.
CREATE TABLE leases (
    name        text PRIMARY KEY,
    holder      text,
    token       bigint NOT NULL,
    acquired_at timestamptz,
    expires_at  timestamptz NOT NULL
);

-- A hint of how far each relay has come; the end of the stream decides.
CREATE TABLE outbox_cursor (
    relay           text PRIMARY KEY,
    position        bigint NOT NULL,
    stream          text,
    stream_created  text, -- text, because the broker's time has nanoseconds, and timestamptz has only microseconds
    stream_sequence bigint NOT NULL,
    purged_to       bigint NOT NULL DEFAULT 0,
    token           bigint NOT NULL,
    updated_at      timestamptz NOT NULL
);

-- +goose Down
-- Lost: every event, how far each relay has come, and who leads.
DROP TABLE outbox_cursor;
DROP TABLE leases;
DROP TABLE outbox;
