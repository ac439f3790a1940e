-- +goose Up

-- The sum of a customer's orders may exceed the 64 bits of amount_minor. The sum is amount_minor + amount: earlier versions of
-- the program add to amount_minor, and this version adds to amount. Changing the type of amount_minor would rewrite the table
-- under a lock.
ALTER TABLE customer_totals ADD COLUMN amount numeric NOT NULL DEFAULT 0;

-- +goose Down
-- Lost: nothing. It fails while a sum exceeds 64 bits.
UPDATE customer_totals SET amount_minor = amount_minor + amount;
ALTER TABLE customer_totals DROP COLUMN amount;
