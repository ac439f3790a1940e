-- +goose Up

-- Which instances are halted, as each instance reports about itself. Only operators read this. A report that is older than a
-- minute comes from a dead instance.
CREATE TABLE outbox_halts (
    relay       text NOT NULL,
    instance    text NOT NULL,
    reason      text NOT NULL,
    detail      text NOT NULL,
    halted_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (relay, instance)
);

-- +goose Down
-- Lost: what each instance reported about its halt.
DROP TABLE outbox_halts;
