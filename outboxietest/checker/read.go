package checker

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	parkedStatement = `SELECT position, event_id, state FROM outbox_parked`
	logStatement    = `SELECT position, event_id, aggregate_type || '/' || aggregate_id, aggregate_version, event_type, subject,
		payload::text FROM outbox ORDER BY position`
	effectsStatement = `SELECT subscriber, event_id, position, aggregate_type || '/' || aggregate_id, aggregate_version
		FROM inbox WHERE applied_at IS NOT NULL ORDER BY subscriber, applied_at, position`
)

// ReadParked reads the parking lot. A database without one has nothing parked.
func ReadParked(ctx context.Context, db *sql.DB) iter.Seq2[Parked, error] {
	if there, err := has(ctx, db, "outbox_parked"); err != nil || !there {
		return func(yield func(Parked, error) bool) {
			if err != nil {
				yield(Parked{}, err)
			}
		}
	}
	return Query(ctx, db, parkedStatement, func(rows *sql.Rows) (p Parked, err error) {
		var id string
		err = rows.Scan(&p.Position, &id, &p.State)
		return p, errors.Join(err, into(&p.ID, id))
	})
}

// ReadLog reads the log by position.
func ReadLog(ctx context.Context, db *sql.DB) iter.Seq2[Event, error] {
	return Query(ctx, db, logStatement, func(rows *sql.Rows) (e Event, err error) {
		var id string
		err = rows.Scan(&e.Position, &id, &e.Aggregate, &e.Version, &e.Type, &e.Subject, &e.Payload)
		return e, errors.Join(err, into(&e.ID, id))
	})
}

// has reports whether the database has a table.
func has(ctx context.Context, db *sql.DB, table string) (there bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there)
	return there, err
}

// ReadEffects reads the inbox. The effects of each subscriber are in the order in which they were applied. If Record was not called, the
// effects are in the order in which their rows were written. Both sequences are the same as long as there are no letters.
func ReadEffects(ctx context.Context, db *sql.DB) iter.Seq2[Effect, error] {
	statement := effectsStatement
	if recorded, err := has(ctx, db, "checker_effects"); err != nil {
		return func(yield func(Effect, error) bool) { yield(Effect{}, err) }
	} else if recorded {
		statement = recordedEffectsStatement
	}
	return Query(ctx, db, statement, func(rows *sql.Rows) (e Effect, err error) {
		var id string
		err = rows.Scan(&e.Subscriber, &id, &e.Position, &e.Aggregate, &e.Version)
		return e, errors.Join(err, into(&e.ID, id))
	})
}

func into(id *ID, text string) (err error) {
	*id, err = ParseID(text)
	return err
}

// Query reads the rows of a statement one by one. A Service reads its tables with it.
func Query[T any](ctx context.Context, db *sql.DB, statement string, scan func(*sql.Rows) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		rows, err := db.QueryContext(ctx, statement)
		if err != nil {
			yield(none, err)
			return
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			one, err := scan(rows)
			if !yield(one, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(none, err)
		}
	}
}

// ReadStream reads the stream from its first message to its last message at the time of the call.
func ReadStream(ctx context.Context, js jetstream.JetStream, stream string) iter.Seq2[Message, error] {
	return ReadStreamFrom(ctx, js, stream, 1)
}

// ReadStreamFrom reads the stream from a sequence on. The stream need not have a message with that sequence.
func ReadStreamFrom(ctx context.Context, js jetstream.JetStream, stream string, from uint64) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		if err := readStream(ctx, js, stream, from, func(m Message) bool { return yield(m, nil) }); err != nil {
			yield(Message{}, err)
		}
	}
}

func readStream(ctx context.Context, js jetstream.JetStream, stream string, from uint64, yield func(Message) bool) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	last := s.CachedInfo().State.LastSeq
	if last < from {
		return nil
	}
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(500))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		message, err := messages.Next(jetstream.NextMaxWait(30 * time.Second))
		if err != nil {
			return err
		}
		meta, err := message.Metadata()
		if err != nil {
			return err
		}
		if !yield(decode(message, meta.Sequence.Stream)) || meta.Sequence.Stream >= last {
			return nil
		}
	}
}

// decode reads the headers of a message. A field without a header stays zero, and a check then fails.
func decode(message jetstream.Msg, sequence uint64) Message {
	text := func(name string) string {
		value, err := url.PathUnescape(message.Headers().Get(name))
		if err != nil {
			return ""
		}
		return value
	}
	number := func(name string) int64 {
		value, _ := strconv.ParseInt(text(name), 10, 64) // a check finds a zero
		return value
	}
	id, _ := ParseID(text("ce-id")) // a check finds a zero
	return Message{
		Sequence: sequence, ID: id, Aggregate: text("Outbox-Aggregate-Type") + "/" + text("ce-subject"),
		Version: number("Outbox-Aggregate-Version"), Type: text("ce-type"), Subject: message.Subject(),
		Position: number("Outbox-Position"), Progress: text("Outbox-Progress"), Payload: message.Data(),
	}
}
