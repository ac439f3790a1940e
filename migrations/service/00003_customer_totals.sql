-- +goose Up

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
-- Lost: the totals of each customer, of all subscribers.
DROP TABLE customer_totals;
