-- +goose Up

-- The decisions about each subscriber, for example whether it is paused. A transaction that changes a decision locks this row
-- first, and then all of the subscriber's lanes in order, and gives each lane a new revision. A row with forgotten_at is a
-- tombstone: no copy works or begins.
CREATE TABLE subscribers (
    subscriber   text PRIMARY KEY,
    handler      text, -- its name; NULL: the subscriber began with an earlier version of the program, which had one handler
    paused_at    timestamptz,
    forgotten_at timestamptz,
    yields_until timestamptz, -- until then, copies begin nothing new, because a transaction waits to change a decision
    filled       bigint NOT NULL DEFAULT 0, -- events that the stream lost before the subscriber saw them, and that came from the log
    missed       bigint NOT NULL DEFAULT 0, -- messages that the stream lost before the subscriber saw them, and that the log does not have
    missed_stream    text, -- the stream of the latest of these messages, and their sequences in it, so that each counts once for all lanes
    missed_sequences int8multirange NOT NULL DEFAULT '{}'
);

-- The types of events that a subscriber wants. It passes over all others.
CREATE TABLE subscriber_types (
    subscriber text NOT NULL,
    event_type text NOT NULL,
    PRIMARY KEY (subscriber, event_type)
);

-- The position up to which the log was published or parked when the stream stored the message at the checkpoint. NULL: not
-- known.
ALTER TABLE subscriber_lanes ADD COLUMN progress bigint;
ALTER TABLE subscriber_marks ADD COLUMN progress bigint;

-- If _no_handler is true, the letter waits for a program that has a handler for its type. Earlier versions of the program see the
-- state 'dead'. 00020 explains the underscore.
ALTER TABLE dead_letters ADD COLUMN _no_handler boolean;

-- +goose Down
-- Lost: which subscribers are paused or forgotten, which types they want, and how many events were missed.
ALTER TABLE dead_letters DROP COLUMN _no_handler;
ALTER TABLE subscriber_marks DROP COLUMN progress;
ALTER TABLE subscriber_lanes DROP COLUMN progress;
DROP TABLE subscriber_types;
DROP TABLE subscribers;
