-- +goose Up

-- The table refuses rows that cannot be published: rows with a position below 1, and rows with a time whose year does not have
-- four digits in every time zone. NOT VALID: rows with such times that are already there may stay, because the relay parks them.
ALTER TABLE outbox
    ADD CONSTRAINT outbox_recorded_at_check
        CHECK (recorded_at >= '0001-01-02 00:00:00+00' AND recorded_at < '9999-12-31 00:00:00+00') NOT VALID,
    ADD CONSTRAINT outbox_position_check CHECK (position > 0) NOT VALID;

-- Rows never change, because a relay does not read a published row again. The trigger fires once for each UPDATE statement, and
-- never for an INSERT.
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
-- Lost: nothing. The table accepts rows again that cannot be published, and rows can be changed.
DROP TRIGGER outbox_append_only ON outbox;
DROP FUNCTION outbox_append_only();
ALTER TABLE outbox
    DROP CONSTRAINT outbox_position_check,
    DROP CONSTRAINT outbox_recorded_at_check;
