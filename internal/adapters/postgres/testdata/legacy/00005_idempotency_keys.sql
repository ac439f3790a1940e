-- +goose Up

-- Which request made which order, so that a request that is sent again gets the first answer. The row commits together
-- with the order. After 24 hours it is void: it may be taken over by another request, and is deleted some time later.
CREATE TABLE idempotency_keys (
    key         text PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint text NOT NULL, -- what was asked for, however it was written
    order_id    uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- +goose Down
DROP TABLE idempotency_keys;
