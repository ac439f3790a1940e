-- +goose Up

-- The checkpoint of each lane of each subscriber. The row changes in the transaction that applies the events up to the
-- checkpoint. fillfactor: each change finds room in the row's own page, so that no index changes.
CREATE TABLE subscriber_lanes (
    subscriber text NOT NULL,
    lane       integer NOT NULL,
    lanes      integer NOT NULL CHECK (lanes BETWEEN 1 AND 1024), -- of the subscriber; an aggregate's lane depends on it
    stream     text NOT NULL, -- when the stream was created, as in outbox_cursor
    sequence   bigint NOT NULL CHECK (sequence >= 0), -- every event of the lane up to here was handled
    stored_ns  bigint NOT NULL, -- when the stream stored that message, in nanoseconds since 1970 (timestamptz: microseconds); 0: not known
    revision   bigint NOT NULL DEFAULT 1,
    moved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscriber, lane),
    CHECK (lane >= 0 AND lane < lanes)
) WITH (fillfactor = 50);

-- Earlier checkpoints of the lanes. If the stream has lost its last messages, a lane goes back to an earlier checkpoint.
CREATE TABLE subscriber_marks (
    subscriber text NOT NULL,
    lane       integer NOT NULL,
    sequence   bigint NOT NULL,
    stored_ns  bigint NOT NULL,
    PRIMARY KEY (subscriber, lane, sequence)
);

-- Which copies of a subscriber run. A hint: no promise depends on it.
CREATE TABLE subscriber_copies (
    subscriber text NOT NULL,
    instance   text NOT NULL,
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (subscriber, instance)
) WITH (fillfactor = 50);

-- The sequence at which the subscriber met the event last. NULL: an earlier version of the program recorded the event.
ALTER TABLE inbox ADD COLUMN sequence bigint;
-- Earlier versions of the program read all columns of a letter. They fail for an unknown column, unless its name begins with an
-- underscore.
ALTER TABLE dead_letters ADD COLUMN _sequence bigint;

-- +goose Down
-- Lost: how far each subscriber has come. Earlier versions read it from the broker.
ALTER TABLE dead_letters DROP COLUMN _sequence;
ALTER TABLE inbox DROP COLUMN sequence;
DROP TABLE subscriber_copies;
DROP TABLE subscriber_marks;
DROP TABLE subscriber_lanes;
