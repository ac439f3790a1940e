-- +goose Up
CREATE TABLE orders (
    id           uuid PRIMARY KEY,
    customer_id  uuid NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0), -- in minor units of the currency: cents for USD
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status       text NOT NULL CHECK (status IN ('created', 'paid', 'shipped', 'cancelled')),
    version      bigint NOT NULL CHECK (version > 0),      -- rises by one with every event
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);

-- +goose Down
DROP TABLE orders;
