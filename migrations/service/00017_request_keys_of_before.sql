-- +goose Up

-- The keys of the last 24 hours. The trigger of 00016 copies keys that are claimed during this migration.
INSERT INTO request_keys (scope, key, digest, order_id, created_at)
SELECT o.customer_id::text, k.key, sha256(convert_to(k.fingerprint, 'UTF8')), k.order_id, k.created_at
FROM idempotency_keys AS k JOIN orders AS o ON o.id = k.order_id
WHERE k.created_at > clock_timestamp() - interval '24 hours'
ON CONFLICT (scope, key) DO NOTHING;

-- +goose Down
-- Lost: nothing.
SELECT 1;
