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

-- The sample effect: what each customer ordered, as each subscriber has seen it.
CREATE TABLE customer_totals (
    subscriber   text NOT NULL,
    customer_id  uuid NOT NULL,
    currency     text NOT NULL,
    amount_minor bigint NOT NULL,
    orders       bigint NOT NULL,
    PRIMARY KEY (subscriber, customer_id, currency)
);

-- +goose Down
DROP TABLE customer_totals;
DROP TABLE inbox;
