-- +goose Up

-- The sum of what a customer ordered may exceed 64 bits. Programs of before write it as they did.
ALTER TABLE customer_totals ALTER COLUMN amount_minor TYPE numeric;

-- +goose Down
-- Lost: nothing. It fails while a sum exceeds 64 bits.
ALTER TABLE customer_totals ALTER COLUMN amount_minor TYPE bigint;
