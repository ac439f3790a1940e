-- +goose Up

-- What a customer ordered may exceed the 64 bits of amount_minor. The sum is amount_minor + amount: programs of before add to amount_minor,
-- this one adds to amount. Changing the type of amount_minor would rewrite the table under a lock.
ALTER TABLE customer_totals ADD COLUMN amount numeric NOT NULL DEFAULT 0;

-- +goose Down
-- Lost: nothing. It fails while a sum exceeds 64 bits.
UPDATE customer_totals SET amount_minor = amount_minor + amount;
ALTER TABLE customer_totals DROP COLUMN amount;
