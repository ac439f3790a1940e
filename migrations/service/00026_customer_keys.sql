-- +goose Up

-- The keys that seal the events of customers, if PERSONAL_DATA is sealed. When a customer is erased, the row loses the customer and the key, and
-- keeps the key's id. So a subscriber knows the difference between an erased customer and a key that the database never had.
CREATE TABLE customer_keys (
    key_id      uuid PRIMARY KEY,   -- random; events name it
    customer_id uuid UNIQUE,        -- NULL: erased
    key         bytea CHECK (length(key) = 32),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at   timestamptz,
    CHECK ((customer_id IS NULL) = (erased_at IS NOT NULL) AND (key IS NULL) = (erased_at IS NOT NULL))
);

-- +goose Down
-- Lost: the keys of all customers. Nobody can open the events that they sealed.
DROP TABLE customer_keys;
