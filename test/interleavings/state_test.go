package interleavings_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// state is the content of the database and the stream when an interleaving begins. Its times are in the year 2020, so that everything that can
// expire has expired.
type state struct {
	name   string
	rows   string // SQL
	stream func() *memory.Stream

	subscribed bool // a subscriber works, and its promises are checked
}

const (
	relayName  = "ORDERS"
	leaseToken = 7
	revision   = 3
	leaseTTL   = time.Hour
	age        = 24 * time.Hour // retention and sweeps remove older rows
)

func uuidOf(kind, number int) string {
	return fmt.Sprintf("%d0000000-0000-4000-8000-%012d", kind, number)
}

// The orders. created and paid are in the table, in these states. redrive, parked and redriven are only in the log; their events up to dealtWith
// are in these states. placed holds the order that each side places.
var (
	created  = uuidOf(1, 1)
	paid     = uuidOf(1, 2)
	redrive  = uuidOf(1, 11)
	parked   = uuidOf(1, 12)
	redriven = uuidOf(1, 13)
	placed   = [2]string{uuidOf(1, 21), uuidOf(1, 22)}
	customer = value.CustomerID(uuidOf(2, 1)) // has a key that seals events
	newcomer = value.CustomerID(uuidOf(2, 8)) // has no orders and no key
)

// pseudonyms is the kind of ids that erased customers get.
const pseudonyms = 6

// lastPosition is the last position in the log of every state. Events up to dealtWith are in the stream or in the parking lot.
const (
	lastPosition = 10
	dealtWith    = 7
	lastSequence = 6   // of the stream
	knownStream  = "1" // the creation time of the stream that the cursor names
)

var log = []outbox.Entry{
	logged(1, created, 1), logged(2, redrive, 1), logged(3, parked, 1), logged(4, paid, 1), logged(5, redrive, 2),
	logged(6, parked, 2), logged(7, redriven, 1), logged(8, paid, 2), logged(9, parked, 3), logged(lastPosition, redrive, 3),
}

// past is the time at which all events were recorded.
var past = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func logged(position int, aggregate string, version int64) outbox.Entry {
	return outbox.Entry{Position: outbox.Position(position), RecordedAt: past, Message: outbox.Message{
		ID: uuidOf(3, position), Type: "outboxie.order.created.v1", Subject: "orders.created",
		Key: outbox.Key{Type: "order", ID: aggregate}, Version: version, Payload: []byte("{}"),
	}}
}

func at(position int) outbox.Entry { return log[position-1] }

// normal has a leader, whose lease has run out and was not taken.
var normal = state{name: "normal", rows: orderRows() + relayRows("NULL") + sweptRows(), stream: func() *memory.Stream {
	s := memory.NewStream()
	s.LimitSubjects("orders.")
	ctx := context.Background()
	must(s.Open(ctx, 1))
	must(s.Publish(ctx, 0, log[:1]))
	must(s.PublishControl(ctx, 1, relay.ControlMessage{Progress: at(2).Progress(), Parked: "too large", LastOwnSequence: 1}))
	must(s.PublishControl(ctx, 2, relay.ControlMessage{Progress: at(3).Progress(), Parked: "too large", LastOwnSequence: 2}))
	must(s.Publish(ctx, 3, log[3:4]))
	must(s.PublishControl(ctx, 4, relay.ControlMessage{Progress: at(7).Progress(), Parked: "too large", LastOwnSequence: 4}))
	must(s.Redrive(ctx, 5, at(7).Progress(), log[6:7]))
	return s
}}

// halted has no stream any more. A new stream differs from the one that the cursor knows.
var halted = state{name: "halted", rows: orderRows() + relayRows("'stream_missing'") + sweptRows(), stream: func() *memory.Stream {
	s := memory.NewStream()
	s.LimitSubjects("orders.")
	former := must(s.Open(context.Background(), 1))
	if former.Created != knownStream {
		panic("the cursor knows stream " + knownStream + ", not " + former.Created)
	}
	s.Drop()
	return s
}}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func orderRows() string {
	const row = "INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at) VALUES "
	return row + fmt.Sprintf("('%s', '%s', 100, 'EUR', 'created', 1, '2020-01-01', '2020-01-01'), ", created, customer) +
		fmt.Sprintf("('%s', '%s', 100, 'EUR', 'paid', 2, '2020-01-01', '2020-01-01');", paid, customer) +
		fmt.Sprintf(`INSERT INTO request_keys VALUES ('%s', 'expired', sha256('of old'), '%s', '2020-01-01'),
			('%s', 'expired too', sha256('of old'), '%s', '2020-01-02');`, customer, created, customer, created) +
		fmt.Sprintf("INSERT INTO customer_keys VALUES ('%s', '%s', sha256('secret'), '2020-01-01');", uuidOf(7, 1), customer) +
		fmt.Sprintf("INSERT INTO idempotency_keys VALUES ('expired before', 'of old', '%s', '2020-01-01');", created)
}

func relayRows(halt string) string {
	var script strings.Builder
	for _, e := range log {
		fmt.Fprintf(&script, `INSERT INTO outbox (position, event_id, aggregate_type, aggregate_id, aggregate_version, event_type,
			subject, payload, recorded_at) OVERRIDING SYSTEM VALUE VALUES (%d, '%s', 'order', '%s', %d, '%s', '%s', '%s', '2020-01-01');`,
			e.Position, e.ID, e.Key.ID, e.Version, e.Type, e.Subject, e.Payload)
	}
	fmt.Fprintf(&script, "SELECT setval('outbox_position_seq', %d);", lastPosition)
	for position, state := range map[int]string{2: "redrive", 5: "redrive", 3: "parked", 6: "parked", 7: "redriven"} {
		sequence := "NULL"
		if state == "redriven" {
			sequence = "6"
		}
		fmt.Fprintf(&script, "INSERT INTO outbox_parked VALUES (%d, '%s', 'order', '%s', 'outboxie.order.created.v1', 'too large', '%s', %s, '2020-01-01', '2020-01-01');",
			position, at(position).ID, at(position).Key.ID, state, sequence)
	}
	fmt.Fprintf(&script, "INSERT INTO leases VALUES ('%s', 'leader', %d, '2020-01-01', '2020-01-01');", relayName, leaseToken)
	fmt.Fprintf(&script, `INSERT INTO outbox_cursor (relay, position, stream, stream_created, stream_sequence, token, updated_at, revision,
		passed, passed_at, halt_reason) VALUES ('%s', %d, 'STREAM', '%s', 6, %d, '2020-01-01', %d, %d, '2020-01-01', %s);`,
		relayName, dealtWith, knownStream, leaseToken, revision, dealtWith, halt)
	return script.String()
}

// sweptEvents are events of the log that a subscriber has applied.
var sweptEvents = []outbox.Entry{at(1), at(7)}

// sweptRows are a subscriber's rows of events that the log can still publish, and a total that the operations of TestLostUpdateIsNoticed
// change.
func sweptRows() string {
	script := subscriberRows() + fmt.Sprintf("INSERT INTO customer_totals VALUES ('%s', '%s', 'USD', 100, 1);", subscriber, customer)
	for _, e := range sweptEvents {
		script += takenRow(inbox.Event{Entry: e, Sequence: 1}, "'2020-01-01'")
	}
	return script
}
