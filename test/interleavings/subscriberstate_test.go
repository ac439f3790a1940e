package interleavings_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// The subscriber has two lanes. The stream begins with the message firstHeld. It ends with endsAt when a sweep reads its end.
const (
	subscriber   = "totals"
	lanes        = 2
	firstHeld    = 20
	endsAt       = 56
	laneRevision = 3
)

// checkpoints are the sequences of the lanes in each state.
var checkpoints = [lanes]uint64{50, 5000}

// The events of the subscriber, in the order of the log. A letter names an aggregate, and a digit is the version of its event.
var (
	old       = arrives(0, 1, 1, 10) // applied; the stream does not have it any more
	given     = arrives(0, 2, 1, 15) // discarded; the stream does not have it any more
	unmet     = arrives(0, 3, 1, 0)  // applied by a former program, which did not record the sequence
	regrown   = arrives(0, 4, 1, 47) // new: a stream that lost its end has it after a repair
	b1        = arrives(0, 5, 1, 45) // applied
	a1        = arrives(0, 6, 1, 41) // has a letter in the states blocked and retried, and is applied in the others; so are a2, a3 and d1
	a2        = arrives(0, 6, 2, 42)
	a3        = arrives(0, 6, 3, 43)
	d1        = arrives(0, 7, 1, 44)
	f1        = arrives(0, 8, 1, 51) // has a failing letter in the state open
	a4        = arrives(0, 6, 4, 52) // a4 and the events below are new
	b2        = arrives(0, 5, 2, 53)
	b3        = arrives(0, 5, 3, 54)
	d2        = arrives(0, 7, 2, 55)
	elsewhere = arrives(1, 9, 1, 5001)
)

// unreadable is the id of a message that is a dead letter.
const unreadable = "unreadable message 9"

// arrivals are the events of the subscriber.
var arrivals []inbox.Event

// arrives makes the next event of the log, which the stream holds at a sequence. The number of its aggregate is chosen so that the
// aggregate is in the lane.
func arrives(lane, aggregate int, version int64, sequence uint64) inbox.Event {
	position := lastPosition + 31 + len(arrivals)
	entry := logged(position, "", version)
	for number := 100 * aggregate; entry.Key.ID == "" || inbox.LaneOf(entry.Key, lanes) != lane; number++ {
		entry.Key.ID = uuidOf(5, number)
	}
	event := inbox.Event{Entry: entry, Sequence: sequence}
	arrivals = append(arrivals, event)
	return event
}

// numberOf returns the index of an event in arrivals, or -1.
func numberOf(id string) int {
	return slices.IndexFunc(arrivals, func(e inbox.Event) bool { return e.ID == id })
}

// effectOf returns the customer of an event, and the amount that it adds to this customer's total. Each event has its own digit in the totals,
// so that they show how often it took effect. Every second event belongs to the other customer.
func effectOf(id string) (value.CustomerID, int64) {
	number := numberOf(id)
	return value.CustomerID(uuidOf(2, 1+number%2)), 1 << (2 * number)
}

// positionAt returns the stream position of a message.
func positionAt(sequence uint64) inbox.StreamPosition {
	return inbox.StreamPosition{Sequence: sequence, StoredAt: past.Add(time.Duration(sequence) * time.Millisecond)}
}

// checkpoint returns the checkpoint of a lane in each state.
func checkpoint(lane int) inbox.Checkpoint {
	return inbox.Checkpoint{Lane: lane, Lanes: lanes, Stream: knownStream, StreamPosition: positionAt(checkpoints[lane]), Revision: laneRevision}
}

// letterSpec is the letter of an event.
type letterSpec struct {
	event    inbox.Event
	state    inbox.LetterState
	attempts int
}

// The states of the subscriber. In blocked, an aggregate waits behind its dead first letter. In retried, the first letter is due for a retry. In
// open, no letter holds an event. In bare, there are no letters.
var (
	blocked = state{name: "blocked", subscribed: true, stream: normal.stream, rows: relayRows("NULL") + lettersOrder + wanted + subscriberRows(
		letterSpec{a1, inbox.Dead, 1}, letterSpec{a2, inbox.Waiting, 0}, letterSpec{a3, inbox.Waiting, 0}, letterSpec{d1, inbox.Dead, 1}, letterSpec{given, inbox.Discarded, 1})}
	retried = state{name: "retried", subscribed: true, stream: normal.stream, rows: relayRows("NULL") + lettersOrder + wanted + subscriberRows(
		letterSpec{a1, inbox.Retrying, 1}, letterSpec{a2, inbox.Waiting, 0}, letterSpec{a3, inbox.Waiting, 0}, letterSpec{d1, inbox.Dead, 1})}
	openState = state{name: "open", subscribed: true, stream: normal.stream, rows: relayRows("NULL") + unreadableRow + subscriberRows(
		letterSpec{f1, inbox.Failing, 1}, letterSpec{given, inbox.Discarded, 1})}
	bare = state{name: "bare", subscribed: true, stream: normal.stream, rows: relayRows("NULL") + subscriberRows()}
)

// lettersOf is the customer of the order whose events are the letters a1, a2 and a3.
var (
	lettersOf    = value.CustomerID(uuidOf(2, 9))
	lettersOrder = fmt.Sprintf(`INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
		VALUES ('%s', '%s', 100, 'EUR', 'created', 1, '2020-01-01', '2020-01-01');`, a1.Key.ID, lettersOf)
)

const unreadableRow = `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, subject, headers, payload, first_failed_at, dead_at,
	due_at, changed_at) VALUES ('` + subscriber + `', '` + unreadable + `', 'dead', 'no', 1, 'x', '{}', '{}', '2020-01-01', '2020-01-01', '2020-01-01', '2020-01-01');`

// subscriberRows returns the SQL of the subscriber's rows, with these letters.
func subscriberRows(letters ...letterSpec) string {
	var script strings.Builder
	for lane := range lanes {
		fmt.Fprintf(&script, "INSERT INTO subscriber_lanes VALUES ('%s', %d, %d, '%s', %d, %d, %d, '2020-01-01');", subscriber, lane, lanes,
			knownStream, checkpoints[lane], positionAt(checkpoints[lane]).StoredAt.UnixNano(), laneRevision)
		for _, sequence := range []uint64{30, 48} {
			fmt.Fprintf(&script, "INSERT INTO subscriber_marks VALUES ('%s', %d, %d, %d);", subscriber, lane, sequence, positionAt(sequence).StoredAt.UnixNano())
		}
	}
	fmt.Fprintf(&script, "INSERT INTO subscriber_copies VALUES ('%[1]s', 'instance', '2020-01-01'), ('%[1]s', 'gone', '2020-01-01');", subscriber)
	totals := make(map[value.CustomerID]int64)
	for _, event := range []inbox.Event{old, unmet, b1, a1, a2, a3, d1} {
		if slices.ContainsFunc(letters, func(l letterSpec) bool { return l.event.ID == event.ID }) {
			continue
		}
		script.WriteString(takenRow(event, "'2020-01-01'"))
		customer, amount := effectOf(event.ID)
		totals[customer] += amount
	}
	for customer, amount := range totals {
		fmt.Fprintf(&script, "INSERT INTO customer_totals VALUES ('%s', '%s', 'EUR', %d, 1);", subscriber, customer, amount)
	}
	for _, letter := range letters {
		script.WriteString(letterRow(letter))
		if letter.state != inbox.Failing {
			script.WriteString(takenRow(letter.event, "NULL"))
		}
	}
	return script.String()
}

func takenRow(e inbox.Event, when string) string {
	return fmt.Sprintf("INSERT INTO inbox VALUES ('%s', '%s', 'order', '%s', %d, %d, %s, %s);", subscriber, e.ID, e.Key.ID, e.Version, e.Position,
		when, metAt(e))
}

func letterRow(l letterSpec) string {
	e, deadAt := l.event, "NULL"
	if l.state == inbox.Dead {
		deadAt = "'2020-01-01'"
	}
	return fmt.Sprintf(`INSERT INTO dead_letters VALUES ('%s', '%s', '%s', 'no', %d, 'order', '%s', %d, %d, '2020-01-01', '%s', '%s', '{}',
		'{}', '2020-01-01', %s, '2020-01-01', '2020-01-01', %s);`, subscriber, e.ID, l.state, l.attempts, e.Key.ID, e.Version, e.Position, e.Type,
		e.Subject, deadAt, metAt(e))
}

// metAt returns the sequence of an event as SQL, or NULL if it is unknown.
func metAt(e inbox.Event) string {
	return cmp.Or(strings.TrimPrefix(fmt.Sprint(e.Sequence), "0"), "NULL")
}
