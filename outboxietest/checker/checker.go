// Package checker checks the results of a run: the log, the stream, the effects of subscribers, and the answers that clients got. A test
// calls Record before the run, and fills a Ledger during the run. At the end it passes a History, which contains the Ledger, to Verify. The
// package shares no code with the engine: it knows only the tables and the headers of messages.
package checker

import (
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Check names one of the promises that a run must keep.
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
	checks // the number of checks
)

// String returns the check's name in reports.
func (c Check) String() string {
	return [checks]string{
		"C1 loss", "C2 duplicates in the stream", "C3 one effect per event", "C4 gapless versions", "C5 order",
		"C6 ghosts", "C7 caught up", "C8 one order per idempotency key",
	}[c]
}

// ID is a UUID.
type ID [16]byte

// ParseID reads a UUID of 36 characters.
func ParseID(text string) (ID, error) {
	var id ID
	digits := strings.ReplaceAll(text, "-", "")
	if n, err := hex.Decode(id[:], []byte(digits[:min(len(digits), 32)])); err != nil || n != len(id) || len(text) != 36 {
		return ID{}, fmt.Errorf("%q is not a UUID", text)
	}
	return id, nil
}

// String returns the UUID as 36 characters.
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

// Message is a message of the stream, read from its headers. A field is zero if its header is missing.
type Message struct {
	Sequence  uint64
	ID        ID
	Aggregate string // type/id
	Version   int64
	Type      string
	Subject   string
	Position  int64  // of the event in the log
	Progress  string // <position>/<event id>: only in control messages and redriven events
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

// Letter is a dead letter that a subscriber has or had.
type Letter struct {
	Subscriber string
	ID         string // of its event
	State      string // empty: the letter ended when its event was applied
}

// Call is a call that an endpoint received for a subscriber with external effects. A history has one Call when the call arrives, and a
// second one if the answer is a success.
type Call struct {
	Subscriber string
	ID         ID // the event's id, which is the key of the call
	Aggregate  string
	Version    int64
	Type       string
	Payload    []byte
	Succeeded  bool
}

// Total is the number and the sum of orders that one subscriber counted for one customer.
type Total struct {
	Subscriber, Customer, Currency string
	Minor, Orders                  int64
}

// Parked is a row of the parking lot.
type Parked struct {
	Position int64
	ID       ID
	State    string // parked, redrive, redriven, discarded
}

// Recovery is the time that relay and subscribers took to catch up after the last fault. Behind names those that had not caught up within
// Bound.
type Recovery struct {
	Took, Bound time.Duration
	Behind      []string
}

// History has all results of a run. Verify reads each iterator at most once, from its beginning to its end.
type History struct {
	Parked      iter.Seq2[Parked, error]
	Log         iter.Seq2[Event, error]   // by position
	Stream      iter.Seq2[Message, error] // by sequence
	Effects     iter.Seq2[Effect, error]  // of each subscriber, in the order in which they were applied
	Letters     iter.Seq2[Letter, error]  // nil: there must be none
	Totals      iter.Seq2[Total, error]
	Calls       iter.Seq2[Call, error] // in the order in which they arrived and were answered; nil: there are none
	Subscribers []string               // all subscribers that must have effects
	// External has the ids in Subscribers whose effects are calls. These subscribers have no totals. They can handle every event, but each
	// call can fail.
	External []string
	Ledger   *Ledger
	Recovery Recovery
}

// Result is the outcome of one check.
type Result struct {
	Check    Check
	Of       int    // the number of checked things
	Things   string // the name of these things
	Count    int    // the number of violations
	Findings []string
}

// shown is the maximum number of violations that are described for one check. All violations are counted.
const shown = 20

// String returns the result's line in a report, and below it the violations.
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

// Verdict has the results of all checks, in order.
type Verdict []Result

// Failed returns the checks that found a violation.
func (v Verdict) Failed() []Check {
	var failed []Check
	for _, result := range v {
		if result.Count > 0 {
			failed = append(failed, result.Check)
		}
	}
	return failed
}

// String returns one line for each check.
func (v Verdict) String() string {
	lines := make([]string, len(v))
	for i, result := range v {
		lines[i] = result.String()
	}
	return strings.Join(lines, "\n")
}

// Verify checks a history. An error means only that the history could not be read.
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
