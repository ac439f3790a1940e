// Package checker checks the results of a run: the log, the stream, the effects of subscribers, and the answers that clients got. A test
// calls Record before the run, and fills a Ledger during the run. At the end it passes a History, which contains the Ledger, to Verify. Open
// reads a History from the addresses of a database and a broker. What one service promises beyond the engine is checked by its Service.
//
// The package shares no code with the engine: it knows only the tables and the headers of messages.
package checker

import (
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// Check names one of the promises that a run must keep, as reports show it. A Service has checks of its own, with its own names.
type Check string

// The checks of the engine's promises.
const (
	Loss       Check = "C1 loss"
	Duplicates Check = "C2 duplicates in the stream"
	Effects    Check = "C3 one effect per event"
	Versions   Check = "C4 gapless versions"
	Sequence   Check = "C5 order"
	Ghosts     Check = "C6 ghosts"
	CaughtUp   Check = "C7 caught up"
)

var checks = []Check{Loss, Duplicates, Effects, Versions, Sequence, Ghosts, CaughtUp}

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
	Calls       iter.Seq2[Call, error]    // in the order in which they arrived and were answered; nil: there are none
	Subscribers []string                  // all subscribers that must have effects
	// External has the ids in Subscribers whose effects are calls. These subscribers can handle every event, but each call can fail.
	External []string
	Ledger   *Ledger
	Recovery Recovery
	Service  Service // nil: the service promises nothing beyond the engine
}

// Service checks what one service promises beyond the engine. For example, the balance of a customer is the sum of the events that were
// applied. Verify calls the methods one after the other: Event, then Applied, then Judge.
type Service interface {
	// Event is called for each event of the log, by position. It returns an error if the service never writes such an event.
	Event(event Event) error
	// Applied is called when an event of the log takes effect for a subscriber. The calls for a subscriber are in the order of its effects. There
	// is one call for each event and subscriber: the engine's checks find a second effect.
	Applied(effect Effect)
	// Judge reports what the service checked, and the violations that it found. An error means that its results could not be read.
	Judge(report Report) error
}

// Report takes the findings of a Service. A check comes into the verdict with its first use.
type Report interface {
	// Checked adds the number of things that check looked at, and names these things.
	Checked(check Check, of int, things string)
	// Found adds one violation.
	Found(check Check, format string, v ...any)
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
	text := fmt.Sprintf("%-33s %d of %d %s", r.Check+":", r.Count, r.Of, r.Things)
	for _, finding := range r.Findings {
		text += "\n    " + finding
	}
	if more := r.Count - len(r.Findings); more > 0 {
		text += fmt.Sprintf("\n    and %d more", more)
	}
	return text
}

// Verdict has the results of all checks: the engine's in order, then those of the service.
type Verdict []Result

// Result returns the result of one check, or the zero Result if there was no such check.
func (v Verdict) Result(check Check) Result {
	if at := slices.IndexFunc(v, func(r Result) bool { return r.Check == check }); at >= 0 {
		return v[at]
	}
	return Result{}
}

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
	r := newRun(h)
	for _, step := range []func(History) error{r.readParked, r.readLog, r.readStream, r.readLetters, r.readEffects, r.readCalls} {
		if err := step(h); err != nil {
			return nil, err
		}
	}
	r.judgeLoss()
	r.judgeRecovery(h.Recovery)
	if h.Service != nil {
		if err := h.Service.Judge(r); err != nil {
			return nil, fmt.Errorf("check the service: %w", err)
		}
	}
	return r.verdict, nil
}
