package checker

import (
	"fmt"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"strings"
)

const (
	typeParked    = "outboxie.event.parked.v1"
	typeAdopted   = "outboxie.log.adopted.v1"
	typeConfirmed = "outboxie.stream.confirmed.v1" // a leader proved where the stream ends

	discarded = "discarded"
	redriven  = "redriven"
)

// row has the kept data of an event of the log.
type row struct {
	position  int64
	id        ID
	version   int64
	content   uint64 // a hash of type, subject and payload
	body      uint64 // a hash of the payload
	kind      string // its type
	aggregate int32
	stored    bool // the event is in the stream
	parked    bool // it has a row in the parking lot
	exempt    bool // it is still parked or was discarded, so the stream need not have it
}

// run checks one history.
type run struct {
	ledger  *Ledger
	service Service
	verdict Verdict

	parked     map[int64]Parked
	log        []row // by position
	aggregates map[string]int32
	kinds      map[string]string        // each type's name, stored once
	names      []string                 // of the aggregates
	last       []int64                  // the last version of each aggregate in the log
	discarded  map[version]struct{}     // versions that were discarded
	applied    map[string][]bool        // by subscriber, for each row of the log
	letters    map[string]map[ID]string // the states of letters, by subscriber and event
}

type version struct {
	aggregate int32
	number    int64
}

func newRun(h History) *run {
	r := &run{
		ledger: h.Ledger, service: h.Service,
		parked: make(map[int64]Parked), aggregates: make(map[string]int32), kinds: make(map[string]string), discarded: make(map[version]struct{}),
		applied: make(map[string][]bool), letters: make(map[string]map[ID]string),
	}
	for _, check := range checks {
		r.verdict = append(r.verdict, Result{Check: check})
	}
	return r
}

// result returns the result of check in the verdict.
func (r *run) result(check Check) *Result {
	at := slices.IndexFunc(r.verdict, func(result Result) bool { return result.Check == check })
	if at < 0 {
		at, r.verdict = len(r.verdict), append(r.verdict, Result{Check: check})
	}
	return &r.verdict[at]
}

// Found implements Report, for the engine's checks too.
func (r *run) Found(check Check, format string, v ...any) {
	result := r.result(check)
	if result.Count++; len(result.Findings) < shown {
		result.Findings = append(result.Findings, fmt.Sprintf(format, v...))
	}
}

// Checked implements Report, for the engine's checks too.
func (r *run) Checked(check Check, of int, things string) {
	result := r.result(check)
	result.Of += of
	result.Things = things
}

func (r *run) aggregate(name string) int32 {
	number, known := r.aggregates[name]
	if !known {
		number = int32(len(r.names))
		name = strings.Clone(name)
		r.aggregates[name] = number
		r.names, r.last = append(r.names, name), append(r.last, 0)
	}
	return number
}

// kind returns a type's name. All equal names share one string.
func (r *run) kind(eventType string) string {
	kind, known := r.kinds[eventType]
	if !known {
		kind = strings.Clone(eventType)
		r.kinds[kind] = kind
	}
	return kind
}

func (r *run) readParked(h History) error {
	return each(h.Parked, "the parking lot", func(p Parked) { r.parked[p.Position] = p })
}

func (r *run) readLog(h History) error {
	err := each(h.Log, "the log", func(event Event) {
		e := row{
			position: event.Position, id: event.ID, version: event.Version, aggregate: r.aggregate(event.Aggregate),
			content: content(event.Type, event.Subject, event.Payload), body: content("", "", event.Payload), kind: r.kind(event.Type),
		}
		if parked, is := r.parked[event.Position]; is {
			e.parked, e.exempt = true, parked.State != redriven
			if parked.State == discarded {
				r.discarded[version{e.aggregate, e.version}] = struct{}{}
			}
			if parked.ID != e.id {
				r.Found(Ghosts, "the parking lot has event %s at position %d, where the log has %s", parked.ID, e.position, e.id)
			}
		}
		if want := r.last[e.aggregate] + 1; e.version != want {
			r.Found(Versions, "log position %d: %s has version %d, want %d", e.position, event.Aggregate, e.version, want)
		}
		r.last[e.aggregate] = e.version
		if r.service != nil {
			if err := r.service.Event(event); err != nil {
				r.Found(Ghosts, "log position %d: the service never writes this event of %s: %s", e.position, event.Aggregate, err)
			}
		}
		if _, is := r.ledger.rolledBack[e.id]; is {
			r.Found(Ghosts, "log position %d: event %s was rolled back", e.position, e.id)
		}
		r.log = append(r.log, e)
	})
	r.Checked(Versions, len(r.names), "aggregates, in log, stream and effects")
	return err
}

// find returns the log index of the event at position, if the event has that id.
func (r *run) find(position int64, id ID) (int, bool) {
	at, is := slices.BinarySearchFunc(r.log, position, func(e row, position int64) int {
		return int(min(max(e.position-position, -1), 1))
	})
	return at, is && r.log[at].id == id
}

// judgeLoss compares the answers of clients with the log, and the log with the stream.
func (r *run) judgeLoss() {
	r.Checked(Loss, len(r.ledger.acknowledged)+len(r.ledger.committed)+len(r.log),
		"acknowledged aggregates and transactions, and events of the log")
	for aggregate, acknowledged := range r.ledger.acknowledged {
		reached := int64(0)
		if number, known := r.aggregates[aggregate]; known {
			reached = r.last[number]
		}
		if reached < acknowledged {
			r.Found(Loss, "%s was acknowledged at version %d, and the log ends at %d", aggregate, acknowledged, reached)
		}
	}
	missing := maps.Clone(r.ledger.committed)
	for _, e := range r.log {
		delete(missing, e.id)
		if !e.stored && !e.exempt {
			r.Found(Loss, "log position %d: event %s, version %d of %s, is not in the stream", e.position, e.id, e.version, r.names[e.aggregate])
		}
	}
	for id := range missing {
		r.Found(Loss, "event %s has an acknowledged commit, but is not in the log", id)
	}
}

func (r *run) judgeRecovery(recovery Recovery) {
	r.Checked(CaughtUp, 1, fmt.Sprintf("run, %.1fs after the last fault, of %s allowed", recovery.Took.Seconds(), recovery.Bound))
	for _, who := range recovery.Behind {
		r.Found(CaughtUp, "%s", who)
	}
	if recovery.Took > recovery.Bound && len(recovery.Behind) == 0 {
		r.Found(CaughtUp, "it took %s", recovery.Took)
	}
}

func content(kind, subject string, payload []byte) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(kind + "\x00" + subject + "\x00"))
	_, _ = hash.Write(payload)
	return hash.Sum64()
}

// each reads a sequence to its end, or to its first error.
func each[T any](all iter.Seq2[T, error], what string, do func(T)) error {
	for one, err := range all {
		if err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		do(one)
	}
	return nil
}
