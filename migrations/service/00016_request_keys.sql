-- +goose Up

-- Which request made or changed which order, so that a request that is sent again gets the first answer. The row commits
-- together with the change. After 24 hours the key is void: another request may take it over, and it is deleted some time
-- later. This table replaces idempotency_keys, in which a key is unique for all customers together.
CREATE TABLE request_keys (
    scope      text NOT NULL CHECK (length(scope) BETWEEN 1 AND 255), -- whose key it is: the customer's id
    key        text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    digest     bytea NOT NULL CHECK (length(digest) = 32),            -- SHA-256 of what was asked for, however it was written
    order_id   uuid NOT NULL,                                         -- the request is answered with this order
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX request_keys_created_at ON request_keys (created_at);

-- Roles that may use the old table may use this one, also before roles.sql is run again.
-- +goose StatementBegin
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee, privilege_type
        FROM pg_class, aclexplode(relacl)
        WHERE oid = 'idempotency_keys'::regclass AND grantee <> relowner AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON request_keys TO %s', granted.privilege_type, granted.grantee);
    END LOOP;
END $$;
-- +goose StatementEnd

-- While this version claims keys here, a program of an earlier version still claims its keys in idempotency_keys. The trigger
-- claims each of those keys here, too, and waits for a transaction that claims the same key. If a request of this version
-- already holds the key, the trigger writes that request's order into idempotency_keys, where the earlier program reads
-- the order. If both requests are the same, the row gets their fingerprint, and the earlier program answers with the order.
-- Otherwise the row gets an empty fingerprint, which matches no request.
-- +goose StatementBegin
CREATE FUNCTION idempotency_keys_claim() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asked bytea := sha256(convert_to(NEW.fingerprint, 'UTF8'));
    whose text := CASE split_part(NEW.fingerprint, ' ', 1) WHEN 'place' THEN split_part(NEW.fingerprint, ' ', 2)
        ELSE (SELECT customer_id::text FROM orders WHERE id = NEW.order_id) END;
    held request_keys;
BEGIN
    IF whose IS NULL OR pg_trigger_depth() > 1 OR EXISTS (
        SELECT FROM idempotency_keys WHERE key = NEW.key AND created_at > clock_timestamp() - interval '24 hours'
    ) THEN
        RETURN NEW;
    END IF;
    INSERT INTO request_keys AS k (scope, key, digest, order_id, created_at)
        VALUES (whose, NEW.key, asked, NEW.order_id, NEW.created_at)
        ON CONFLICT (scope, key) DO UPDATE
            SET digest = excluded.digest, order_id = excluded.order_id, created_at = excluded.created_at
            WHERE k.created_at <= clock_timestamp() - interval '24 hours'
        RETURNING k.* INTO held;
    IF FOUND THEN
        RETURN NEW;
    END IF;
    SELECT k.* INTO STRICT held FROM request_keys AS k WHERE k.scope = whose AND k.key = NEW.key;
    INSERT INTO idempotency_keys AS k (key, fingerprint, order_id, created_at)
        VALUES (NEW.key, CASE WHEN held.digest = asked THEN NEW.fingerprint ELSE '' END, held.order_id, held.created_at)
        ON CONFLICT (key) DO UPDATE
            SET fingerprint = excluded.fingerprint, order_id = excluded.order_id, created_at = excluded.created_at
            WHERE k.created_at <= clock_timestamp() - interval '24 hours';
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER idempotency_keys_claim BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION idempotency_keys_claim();

-- +goose Down
-- Lost: the Idempotency-Keys that this version claimed in the last 24 hours: a request that is sent again with one makes a second order.
DROP TRIGGER idempotency_keys_claim ON idempotency_keys;
DROP FUNCTION idempotency_keys_claim();
DROP TABLE request_keys;
