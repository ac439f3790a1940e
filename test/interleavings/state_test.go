package interleavings_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// state is where an interleaving begins. Its clocks stand in the year 2020, so that what can expire has expired.
type state struct {
	name   string
	rows   string // SQL
	stream func() *memory.Stream
}

const (
	relayName  = "ORDERS"
	leaseToken = 7
	revision   = 3
	leaseTTL   = time.Hour
	age        = 24 * time.Hour // of what retention removes

	subscriber = "totals"
)

func uuidOf(kind, number int) string {
	return fmt.Sprintf("%d0000000-0000-4000-8000-%012d", kind, number)
}

// The orders: two in the table, of which one is created and one is paid; three that only the log knows, of which one is to be
// redriven, one is parked and one was redriven; and two that are placed by the one side or the other.
var (
	created  = uuidOf(1, 1)
	paid     = uuidOf(1, 2)
	redrive  = uuidOf(1, 11)
	parked   = uuidOf(1, 12)
	redriven = uuidOf(1, 13)
	placed   = [2]string{uuidOf(1, 21), uuidOf(1, 22)}
	customer = order.CustomerID(uuidOf(2, 1))
)

// lastPosition is the last one in the log of every state. Positions up to dealtWith are in the stream or in the lot.
const (
	lastPosition = 10
	dealtWith    = 7
	lastSequence = 6   // of the stream
	knownStream  = "1" // when the cursor's stream was made
)

var log = []outbox.Entry{
	logged(1, created, 1), logged(2, redrive, 1), logged(3, parked, 1), logged(4, paid, 1), logged(5, redrive, 2),
	logged(6, parked, 2), logged(7, redriven, 1), logged(8, paid, 2), logged(9, parked, 3), logged(lastPosition, redrive, 3),
}

// past is when everything was recorded.
var past = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func logged(position int, aggregate string, version int64) outbox.Entry {
	return outbox.Entry{Position: outbox.Position(position), RecordedAt: past, Message: outbox.Message{
		ID: uuidOf(3, position), Type: "outboxie.order.created.v1", Subject: "orders.created",
		Key: outbox.Key{Type: "order", ID: aggregate}, Version: version, Payload: []byte("{}"),
	}}
}

func at(position int) outbox.Entry { return log[position-1] }

// normal has a leader, whose lease has run out and was not taken.
var normal = state{name: "normal", rows: orderRows() + relayRows("NULL") + letterRows(), stream: func() *memory.Stream {
	s := memory.NewStream()
	ctx := context.Background()
	must(s.Open(ctx, 1))
	must(s.Publish(ctx, 0, log[:1]))
	must(s.Notify(ctx, 1, outbox.Notice{Progress: at(2).Progress(), Parked: "too large", Kept: 1}))
	must(s.Notify(ctx, 2, outbox.Notice{Progress: at(3).Progress(), Parked: "too large", Kept: 2}))
	must(s.Publish(ctx, 3, log[3:4]))
	must(s.Notify(ctx, 4, outbox.Notice{Progress: at(7).Progress(), Parked: "too large", Kept: 4}))
	must(s.Redrive(ctx, 5, at(7).Progress(), log[6:7]))
	return s
}}

// halted has no stream any more. One that is made again is another one than the cursor knows.
var halted = state{name: "halted", rows: orderRows() + relayRows("'stream_missing'") + letterRows(), stream: func() *memory.Stream {
	s := memory.NewStream()
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

// The events of the subscriber. Of each aggregate the first number is its events' kind of UUID, the second their position.
var (
	dead     = [4]outbox.Entry{received(41, 1), received(42, 1), received(43, 1), received(44, 1)} // dead, waiting, waiting, new
	retrying = [4]outbox.Entry{received(51, 2), received(52, 2), received(53, 2), received(54, 2)} // retrying, waiting, waiting, new
	only     = [2]outbox.Entry{received(31, 7), received(32, 7)}                                   // dead, new
	failing  = received(61, 3)
	fresh    = received(71, 4)
	applied  = received(81, 5)
)

const unreadable = "unreadable message 9"

func received(position, aggregate int) outbox.Entry {
	e := logged(position, uuidOf(5, aggregate), int64(position%10))
	return e
}

func letterRows() string {
	var script strings.Builder
	letter := func(e outbox.Entry, state string, attempts int) {
		fmt.Fprintf(&script, `INSERT INTO dead_letters VALUES ('%s', '%s', '%s', 'no', %d, 'order', '%s', %d, %d, '2020-01-01', '%s', '%s', '{}',
			'{}', '2020-01-01', %s, '2020-01-01', '2020-01-01');`, subscriber, e.ID, state, attempts, e.Key.ID, e.Version, e.Position, e.Type,
			e.Subject, map[bool]string{true: "'2020-01-01'", false: "NULL"}[state == "dead"])
	}
	taken := func(e outbox.Entry, when string) {
		fmt.Fprintf(&script, "INSERT INTO inbox VALUES ('%s', '%s', 'order', '%s', %d, %d, %s);", subscriber, e.ID, e.Key.ID, e.Version, e.Position, when)
	}
	for i, state := range []string{"dead", "waiting", "waiting"} {
		letter(dead[i], state, 1-min(i, 1))
		taken(dead[i], "NULL")
	}
	for i, state := range []string{"retrying", "waiting", "waiting"} {
		letter(retrying[i], state, 0)
		taken(retrying[i], "NULL")
	}
	letter(only[0], "dead", 1)
	taken(only[0], "NULL")
	letter(failing, "failing", 1)
	discarded := received(91, 6)
	letter(discarded, "discarded", 1)
	taken(discarded, "NULL")
	taken(applied, "'2020-01-01'")
	fmt.Fprintf(&script, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, subject, headers, payload, first_failed_at, dead_at,
		due_at, changed_at) VALUES ('%s', '%s', 'dead', 'no', 1, 'x', '{}', '{}', '2020-01-01', '2020-01-01', '2020-01-01', '2020-01-01');`, subscriber, unreadable)
	fmt.Fprintf(&script, "INSERT INTO customer_totals VALUES ('%s', '%s', 'EUR', 100, 1);", subscriber, customer)
	return script.String()
}
