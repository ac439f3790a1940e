-- +goose Up

-- What each subscriber has applied. The row commits together with the effect, so an event takes effect once.
CREATE TABLE inbox (
    subscriber        text NOT NULL,
    event_id          uuid NOT NULL,
    aggregate_type    text NOT NULL,
    aggregate_id      text NOT NULL,
    aggregate_version bigint NOT NULL,
    position          bigint NOT NULL,
    applied_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscriber, event_id)
);

-- +goose Down
-- Lost: which events each subscriber has applied. Events that come again take effect again.
DROP TABLE inbox;
