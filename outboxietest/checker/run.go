package checker

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	typeParked    = "outboxie.event.parked.v1"
	typeAdopted   = "outboxie.log.adopted.v1"
	typeConfirmed = "outboxie.stream.confirmed.v1" // a leader proved where the stream ends
	typeCreated   = "outboxie.order.created.v1"

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
	stored    bool    // the event is in the stream
	parked    bool    // it has a row in the parking lot
	exempt    bool    // it is still parked or was discarded, so the stream need not have it
	order     *placed // the order that the event created; nil: none
}

// placed has the data of a created order that count in its customer's total.
type placed struct {
	account account
	minor   int64
}

// run checks one history.
type run struct {
	ledger  *Ledger
	verdict Verdict

	parked     map[int64]Parked
	log        []row // by position
	aggregates map[string]int32
	kinds      map[string]string        // each type's name, stored once
	names      []string                 // of the aggregates
	last       []int64                  // the last version of each aggregate in the log
	discarded  map[version]struct{}     // versions that were discarded
	created    map[account]struct{}     // the customers that have orders in the log
	made       map[Placement][]ID       // the orders in the log for each placement of the ledger
	applied    map[string][]bool        // by subscriber, for each row of the log
	letters    map[string]map[ID]string // the states of letters, by subscriber and event
	totals     map[string]map[account]Total
}

type version struct {
	aggregate int32
	number    int64
}

type account struct{ customer, currency string }

func newRun(ledger *Ledger) *run {
	r := &run{
		ledger: ledger, verdict: make(Verdict, checks),
		parked: make(map[int64]Parked), aggregates: make(map[string]int32), kinds: make(map[string]string), discarded: make(map[version]struct{}),
		created: make(map[account]struct{}), made: make(map[Placement][]ID), applied: make(map[string][]bool),
		letters: make(map[string]map[ID]string), totals: make(map[string]map[account]Total),
	}
	for check := range checks {
		r.verdict[check] = Result{Check: check}
	}
	return r
}

func (r *run) found(check Check, format string, v ...any) {
	result := &r.verdict[check]
	if result.Count++; len(result.Findings) < shown {
		result.Findings = append(result.Findings, fmt.Sprintf(format, v...))
	}
}

func (r *run) addChecked(check Check, of int, things string) {
	r.verdict[check].Of += of
	r.verdict[check].Things = things
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
				r.found(Ghosts, "the parking lot has event %s at position %d, where the log has %s", parked.ID, e.position, e.id)
			}
		}
		if want := r.last[e.aggregate] + 1; e.version != want {
			r.found(Versions, "log position %d: %s has version %d, want %d", e.position, event.Aggregate, e.version, want)
		}
		r.last[e.aggregate] = e.version
		if event.Type == typeCreated {
			e.order = r.order(event)
		}
		if _, is := r.ledger.rolledBack[e.id]; is {
			r.found(Ghosts, "log position %d: event %s was rolled back", e.position, e.id)
		}
		r.log = append(r.log, e)
	})
	r.addChecked(Versions, len(r.names), "aggregates, in log, stream and effects")
	return err
}

// order returns the order that a created event describes. If the ledger has a placement with the same customer and amount, r.made gets the
// id of the order under this placement.
func (r *run) order(event Event) *placed {
	var body struct {
		Customer string `json:"customer_id"`
		Amount   string `json:"amount"`
		Currency string `json:"currency"`
	}
	err := json.Unmarshal(event.Payload, &body)
	minor, parseErr := strconv.ParseInt(strings.Replace(body.Amount, ".", "", 1), 10, 64)
	customer, idErr := ParseID(body.Customer)
	if err != nil || parseErr != nil || idErr != nil {
		r.found(Ghosts, "log position %d: %s has a payload that is not an order: %.200s", event.Position, event.Aggregate, event.Payload)
		return nil
	}
	key := account{body.Customer, body.Currency}
	r.created[key] = struct{}{}
	placement := Placement{Customer: customer, Minor: minor}
	if _, requested := r.ledger.placed[placement]; requested {
		_, id, _ := strings.Cut(event.Aggregate, "/")
		order, _ := ParseID(id)
		r.made[placement] = append(r.made[placement], order)
	}
	return &placed{account: key, minor: minor}
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
	r.addChecked(Loss, len(r.ledger.orders)+len(r.ledger.committed)+len(r.log), "acknowledged orders and transactions, and events of the log")
	for id, acknowledged := range r.ledger.orders {
		reached := int64(0)
		if number, known := r.aggregates["order/"+id.String()]; known {
			reached = r.last[number]
		}
		if reached < acknowledged {
			r.found(Loss, "order %s was acknowledged at version %d, and the log ends at %d", id, acknowledged, reached)
		}
	}
	missing := maps.Clone(r.ledger.committed)
	for _, e := range r.log {
		delete(missing, e.id)
		if !e.stored && !e.exempt {
			r.found(Loss, "log position %d: event %s, version %d of %s, is not in the stream", e.position, e.id, e.version, r.names[e.aggregate])
		}
	}
	for id := range missing {
		r.found(Loss, "event %s has an acknowledged commit, but is not in the log", id)
	}
	r.addChecked(Keys, len(r.ledger.placed), "keys")
	for placement, orders := range r.made {
		if len(orders) > 1 {
			r.found(Keys, "customer %s, amount %d: one key has several orders, %v", placement.Customer, placement.Minor, orders)
		}
		if answered := r.ledger.placed[placement]; answered != (ID{}) && !slices.Contains(orders, answered) {
			r.found(Keys, "customer %s, amount %d: the log has orders %v, but the client was told %s",
				placement.Customer, placement.Minor, orders, answered)
		}
	}
}

func (r *run) judgeRecovery(recovery Recovery) {
	r.addChecked(CaughtUp, 1, fmt.Sprintf("run, %.1fs after the last fault, of %s allowed", recovery.Took.Seconds(), recovery.Bound))
	for _, who := range recovery.Behind {
		r.found(CaughtUp, "%s", who)
	}
	if recovery.Took > recovery.Bound && len(recovery.Behind) == 0 {
		r.found(CaughtUp, "it took %s", recovery.Took)
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
