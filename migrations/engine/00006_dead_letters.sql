-- +goose NO TRANSACTION
-- +goose Up

-- Events that a subscriber could not handle, and later events that wait behind them. An event that was set aside also has a row
-- in inbox, with applied_at NULL. The key of that row makes sure, also under concurrency, that the event takes effect only
-- once.
-- +goose StatementBegin
DO $$ BEGIN
    SET LOCAL lock_timeout = '100ms';
    ALTER TABLE inbox ALTER COLUMN applied_at DROP NOT NULL;

    CREATE TABLE IF NOT EXISTS dead_letters (
        subscriber        text NOT NULL,
        event_id          text NOT NULL, -- if the message cannot be read: made of its sequence in the stream and a digest
        state             text NOT NULL CHECK (state IN ('failing', 'dead', 'waiting', 'retrying', 'discarded')),
        error             text NOT NULL,
        attempts          integer NOT NULL, -- failures since it came, or since its last retry
        aggregate_type    text, -- this and the next five are NULL when the message cannot be read
        aggregate_id      text,
        aggregate_version bigint,
        position          bigint,
        recorded_at       timestamptz,
        event_type        text,
        subject           text NOT NULL,
        headers           json NOT NULL,
        payload           bytea NOT NULL,
        first_failed_at   timestamptz NOT NULL DEFAULT clock_timestamp(), -- or was set aside
        dead_at           timestamptz,
        due_at            timestamptz NOT NULL DEFAULT clock_timestamp(), -- the earliest time of the next try of a retrying letter
        changed_at        timestamptz NOT NULL DEFAULT clock_timestamp(), -- when the state changed
        PRIMARY KEY (subscriber, event_id)
    );
    CREATE INDEX IF NOT EXISTS dead_letters_aggregates ON dead_letters (subscriber, aggregate_type, aggregate_id, position)
        WHERE state <> 'discarded';
    CREATE INDEX IF NOT EXISTS dead_letters_due ON dead_letters (subscriber, state, due_at) WHERE state IN ('dead', 'retrying');
END $$;
-- +goose StatementEnd

DROP INDEX CONCURRENTLY IF EXISTS inbox_applied;
CREATE INDEX CONCURRENTLY inbox_applied ON inbox (subscriber, applied_at) WHERE applied_at IS NOT NULL;

-- +goose Down
-- Lost: every dead letter, with its event and its error. Events that were set aside are applied if they come again.
-- +goose StatementBegin
DO $$ BEGIN
    SET LOCAL lock_timeout = '100ms';
    DROP TABLE IF EXISTS dead_letters;
    DROP INDEX IF EXISTS inbox_applied;
    DELETE FROM inbox WHERE applied_at IS NULL;
    ALTER TABLE inbox ALTER COLUMN applied_at SET NOT NULL;
END $$;
-- +goose StatementEnd
