package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type letterRow struct {
	bun.BaseModel `bun:"table:dead_letters,alias:letter"`

	Subscriber       string            `bun:"subscriber"`
	EventID          string            `bun:"event_id"`
	State            inbox.LetterState `bun:"state"`
	Error            string            `bun:"error"`
	Attempts         int               `bun:"attempts"`
	AggregateType    string            `bun:"aggregate_type,nullzero"`
	AggregateID      string            `bun:"aggregate_id,nullzero"`
	AggregateVersion int64             `bun:"aggregate_version,nullzero"`
	Position         int64             `bun:"position,nullzero"`
	RecordedAt       time.Time         `bun:"recorded_at,nullzero"`
	EventType        string            `bun:"event_type,nullzero"`
	Subject          string            `bun:"subject"`
	Headers          map[string]string `bun:"headers,type:json"`
	Payload          []byte            `bun:"payload"`
	Read             digits            `bun:"payload_hex,scanonly"` // the payload, as letterColumns reads it
	FirstFailedAt    time.Time         `bun:"first_failed_at,nullzero,default:clock_timestamp()"`
	DeadAt           time.Time         `bun:"dead_at,nullzero"`
	DueAt            time.Time         `bun:"due_at,nullzero,default:clock_timestamp()"`
	ChangedAt        time.Time         `bun:"changed_at,nullzero,default:clock_timestamp()"`
	Sequence         int64             `bun:"_sequence,nullzero"` // where the lane read the event last, in the stream; not in letterColumns
	NoHandler        bool              `bun:"_no_handler,nullzero"`
	Behind           int               `bun:"behind,scanonly"`
	Shown            inbox.LetterState `bun:"shown,scanonly"` // the state, computed from the other letters; empty: not read
}

// newLetterRow returns the row of a new failing letter. It turns everything into text that Postgres accepts, because anybody may have
// written the message.
func newLetterRow(subscriber string, entry outbox.Entry) *letterRow {
	row := &letterRow{
		Subscriber:       subscriber,
		EventID:          letterID(entry.ID),
		State:            inbox.Failing,
		AggregateType:    text(entry.Key.Type),
		AggregateID:      text(entry.Key.ID),
		AggregateVersion: entry.Version,
		Position:         int64(entry.Position),
		RecordedAt:       recordable(entry.RecordedAt),
		EventType:        text(entry.Type),
		Subject:          text(entry.Subject),
		Headers:          make(map[string]string, len(entry.Headers)),
		Payload:          append([]byte{}, entry.Payload...), // never NULL
	}
	for name, value := range entry.Headers {
		row.Headers[text(name)] = text(value)
	}
	return row
}

// letterColumns are the columns of a letter. How Postgres prints bytes is a setting that poolers do not keep for each client. So the
// payload is read as hexadecimal digits.
const letterColumns = `subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version, position,
	recorded_at, event_type, subject, headers, encode(payload, 'hex') AS payload_hex, first_failed_at, dead_at, due_at, changed_at,
	coalesce(_no_handler, false) AS _no_handler`

// digits are bytes that are read as hexadecimal digits.
type digits []byte

// Scan reads what encode(…, 'hex') returns.
func (d *digits) Scan(read any) (err error) {
	switch read := read.(type) {
	case string:
		*d, err = hex.DecodeString(read)
	case []byte:
		*d, err = hex.DecodeString(string(read))
	default:
		err = fmt.Errorf("a payload was read as %T", read)
	}
	return err
}

func (r *letterRow) letter() inbox.Letter {
	letter := inbox.Letter{
		Entry: outbox.Entry{Position: outbox.Position(r.Position), RecordedAt: r.RecordedAt, Message: outbox.Message{
			ID: r.EventID, Type: r.EventType, Subject: r.Subject, Version: r.AggregateVersion,
			Key: outbox.Key{Type: r.AggregateType, ID: r.AggregateID}, Payload: r.Read,
		}},
		State: r.State, Error: r.Error, Attempts: r.Attempts, Behind: r.Behind, FirstFailedAt: r.FirstFailedAt, DeadAt: r.DeadAt,
	}
	if r.Shown != "" {
		letter.State = r.Shown
	}
	letter.NoHandler = r.NoHandler && letter.State == inbox.Dead
	if len(r.Headers) > 0 {
		letter.Headers = maps.Clone(r.Headers)
	}
	return letter
}

func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// longestID is the longest id of a letter, in bytes. Ids of events are UUIDs. A longer id is not from the engine, and an index can hold
// only some 2,700 bytes.
const longestID = 255

// letterID returns the id under which the letter of an event is kept: the event's own id, or a digest of an id that is too long.
func letterID(id string) string {
	id = text(id)
	if len(id) <= longestID {
		return id
	}
	return fmt.Sprintf("long-id-%x", sha256.Sum256([]byte(id)))
}

// recordable returns a time that Postgres can keep: Postgres has no year 0. If it cannot keep the time, the result is zero, which means
// unknown.
func recordable(at time.Time) time.Time {
	if year := at.UTC().Year(); year < 1 || year > 9999 {
		return time.Time{}
	}
	return at
}

// letterAggregate is the digest of a letter's aggregate, as the index dead_letters_of has it. ofAggregate selects the letters of the
// aggregate with type ?1 and id ?2. Different aggregates may have the same digest, so ofAggregate compares type and id too.
const (
	letterAggregate = "hashtextextended(aggregate_id, hashtextextended(aggregate_type, 0))"
	ofAggregate     = letterAggregate + " = hashtextextended(?2, hashtextextended(?1, 0)) AND aggregate_type = ?1 AND aggregate_id = ?2"
)

// pendingStates are the states in which a letter holds later events of its aggregate.
const pendingStates = "('dead', 'waiting', 'retrying')"
