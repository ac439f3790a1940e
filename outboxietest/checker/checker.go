// Package checker judges what a run left behind: the log, the stream, the subscribers' effects, and what clients were
// told. It shares no code with the engine: it knows the tables, the headers of a message, and nothing else.
package checker

import (
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Check is one of the promises that a run is held to.
type Check int

// The checks.
const (
	Loss Check = iota
	Duplicates
	Effects
	Versions
	Order
	Ghosts
	CaughtUp
	Keys
	checks // how many there are
)

// String is the check's name in reports.
func (c Check) String() string {
	return [checks]string{
		"C1 loss", "C2 duplicates in the stream", "C3 one effect per event", "C4 gapless versions", "C5 order",
		"C6 ghosts", "C7 everybody caught up", "C8 one order per idempotency key",
	}[c]
}

// ID is a UUID.
type ID [16]byte

// ParseID reads the usual 36 characters.
func ParseID(text string) (ID, error) {
	var id ID
	digits := strings.ReplaceAll(text, "-", "")
	if n, err := hex.Decode(id[:], []byte(digits[:min(len(digits), 32)])); err != nil || n != len(id) || len(text) != 36 {
		return ID{}, fmt.Errorf("%q is not a UUID", text)
	}
	return id, nil
}

// String is the usual 36 characters.
func (id ID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// Event is a row of the log.
type Event struct {
	Position  int64
	ID        ID
	Aggregate string // type/id
	Version   int64
	Type      string
	Subject   string
	Payload   []byte
}

// Message is a message of the stream: what its headers say. What a header lacks is zero here.
type Message struct {
	Sequence  uint64
	ID        ID
	Aggregate string // type/id
	Version   int64
	Type      string
	Subject   string
	Position  int64  // the event's own
	Progress  string // <position>/<event id>: only of notices and redriven events
	Payload   []byte
}

// Effect is a row of the inbox.
type Effect struct {
	Subscriber string
	ID         ID
	Position   int64
	Aggregate  string // type/id
	Version    int64
}

// Letter is a dead letter that a subscriber has, or had.
type Letter struct {
	Subscriber string
	ID         string // of its event
	State      string // empty: it ended when its event was applied
}

// Call is a call that an endpoint received for a subscriber whose effects are calls. Each stands in a history once when it arrives, and once
// more when it is answered with success.
type Call struct {
	Subscriber string
	ID         ID // the key
	Aggregate  string
	Version    int64
	Type       string
	Payload    []byte
	Succeeded  bool
}

// Total is what one subscriber counted for one customer.
type Total struct {
	Subscriber, Customer, Currency string
	Minor, Orders                  int64
}

// Parked is a row of the parking lot.
type Parked struct {
	Position int64
	ID       ID
	State    string // parked, redrive, redriven, discard, discarded
}

// Recovery is how it ended: how long everybody took to catch up after the last fault, and who had not when the bound was
// reached.
type Recovery struct {
	Took, Bound time.Duration
	Behind      []string
}

// History is everything that a run left behind. Each sequence is read once, from its beginning to its end.
type History struct {
	Parked      iter.Seq2[Parked, error]
	Log         iter.Seq2[Event, error]   // by position
	Stream      iter.Seq2[Message, error] // by sequence
	Effects     iter.Seq2[Effect, error]  // of each subscriber in the order of applying
	Letters     iter.Seq2[Letter, error]  // nil: nobody may have any
	Totals      iter.Seq2[Total, error]
	Calls       iter.Seq2[Call, error] // in the order in which they arrived and were answered; nil: there are none
	Subscribers []string               // all that there should be
	// External are those of Subscribers whose effects are calls. They count no totals. They can handle every event, and a call can fail for any.
	External []string
	Ledger   *Ledger
	Recovery Recovery
}

// Result is what came out for one check.
type Result struct {
	Check    Check
	Of       int    // how many things were looked at
	Things   string // what they are
	Count    int    // how many violate the promise
	Findings []string
}

// shown is how many violations of one check are described; all are counted.
const shown = 20

// String is the result's line in a report, with what was found below.
func (r Result) String() string {
	text := fmt.Sprintf("%-33s %d of %d %s", r.Check.String()+":", r.Count, r.Of, r.Things)
	for _, finding := range r.Findings {
		text += "\n    " + finding
	}
	if more := r.Count - len(r.Findings); more > 0 {
		text += fmt.Sprintf("\n    and %d more", more)
	}
	return text
}

// Verdict is the results of all checks, in order.
type Verdict []Result

// Failed names the checks that found something.
func (v Verdict) Failed() []Check {
	var failed []Check
	for _, result := range v {
		if result.Count > 0 {
			failed = append(failed, result.Check)
		}
	}
	return failed
}

// String is the report's lines.
func (v Verdict) String() string {
	lines := make([]string, len(v))
	for i, result := range v {
		lines[i] = result.String()
	}
	return strings.Join(lines, "\n")
}

// Verify judges a history. An error means that the history could not be read, and says nothing about it.
func Verify(h History) (Verdict, error) {
	r := newRun(h.Ledger)
	for _, step := range []func(History) error{r.readParked, r.readLog, r.readStream, r.readLetters, r.readEffects, r.readTotals, r.readCalls} {
		if err := step(h); err != nil {
			return nil, err
		}
	}
	r.judgeLoss()
	r.judgeRecovery(h.Recovery)
	return r.verdict, nil
}
