-- +goose Up

-- The constraints and the trigger need the table for a moment. To wait for it behind a long transaction would hold up every
-- writer, so the wait is short and tried again, and writers get through in between.
-- +goose StatementBegin
DO $$
BEGIN
    SET LOCAL lock_timeout = '200ms';
    FOR try IN 1..20 LOOP
        BEGIN
            LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.3);
        END;
    END LOOP;
    RAISE EXCEPTION 'the outbox was in use for ten seconds by a transaction that stays open'
        USING ERRCODE = 'lock_not_available', HINT = 'End the transaction (see pg_stat_activity), and migrate again.';
END $$;
-- +goose StatementEnd

-- What cannot be relayed: a time that cannot be written in every time zone with a year of four digits, and a position before
-- the first one. The relay parks rows with such times that are there already, so they need not go: NOT VALID.
ALTER TABLE outbox
    ADD CONSTRAINT outbox_recorded_at_check
        CHECK (recorded_at >= '0001-01-02 00:00:00+00' AND recorded_at < '9999-12-31 00:00:00+00') NOT VALID,
    ADD CONSTRAINT outbox_position_check CHECK (position > 0) NOT VALID;

-- Rows are never changed: a relay that has published one does not look at it again. The trigger fires once for each
-- statement, and never for an INSERT.
-- +goose StatementBegin
CREATE FUNCTION outbox_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the outbox is append-only: its rows must not be updated'
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Append another event. To repair a parked row, delete it and insert it again at its position, in one transaction.';
END $$;
-- +goose StatementEnd
CREATE TRIGGER outbox_append_only BEFORE UPDATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_append_only();

-- +goose Down
DROP TRIGGER outbox_append_only ON outbox;
DROP FUNCTION outbox_append_only();
ALTER TABLE outbox
    DROP CONSTRAINT outbox_position_check,
    DROP CONSTRAINT outbox_recorded_at_check;
