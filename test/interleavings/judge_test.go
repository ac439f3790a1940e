package interleavings_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The checks of an interleaving. The text after each check is the condition that must hold.
const (
	serial         = "serial"           // tables, stream and answers are those of one serial order
	stranded       = "stranded"         // a letter that is not dead either waits behind a dead one or is redelivered
	appliedAndDead = "applied and dead" // no event is both applied and a dead letter
	effects        = "effects"          // each applied event took effect once, and no other event
	disorder       = "disorder"         // a handler is called for an aggregate's events in their order
	passed         = "passed"           // a lane has passed only events that were applied, discarded or made dead letters
	forgotten      = "forgotten"        // the inbox knows each event that the log can publish again
	deadlocked     = "deadlock"         // two operations do not wait for each other, unless one of them gives a reason
	versions       = "versions"         // the log has an event for each version of an order, in order
	sealing        = "sealing"          // an event can be opened exactly while its order has the customer of its key
	revisions      = "revisions"        // the cursor counts the relay's writes, and each fence is used once
	parkedInStream = "lot"              // where relays run, parked and discarded events are not in the stream
	afterwards     = "afterwards"       // after further relays, each event that was not discarded is in the stream once
)

// violation is a check that failed, and how.
type violation struct{ check, detail string }

// judge checks the rows, messages and answers that an interleaving of a pair left, and returns the violations.
func (h *harness) judge(ctx context.Context, p *pair, hist *history) ([]violation, error) {
	rows, err := h.rows(ctx)
	if err != nil {
		return nil, err
	}
	found := slices.Concat(versionsOf(rows), sealingOf(rows), revisionsOf(rows, p, hist))
	if p.operations[0].state().subscribed {
		said, err := h.followed(ctx, p, hist, rows)
		return append(found, said...), err
	}
	found = append(found, forgottenOf(rows)...)
	if p.relay() {
		found = append(found, h.lotOf(rows)...)
		said, err := h.relayAfterwards(ctx, rows)
		return append(found, said...), err
	}
	if outcome := h.outcome(rows); !p.isSerial(hist.answers, outcome) {
		found = append(found, violation{serial, "the outcome is that of no serial order: " + p.differences(hist.answers, outcome)})
	}
	return found, nil
}

// differences returns the lines in which an outcome differs from the nearest serial one.
func (p *pair) differences(answers [2]answer, outcome string) string {
	here := strings.Split(answered(answers, outcome), "\n")
	var nearest []string
	for _, expected := range p.serial {
		there := strings.Split(expected, "\n")
		var lines []string
		for _, line := range here {
			if !slices.Contains(there, line) {
				lines = append(lines, "\n    got  "+line)
			}
		}
		for _, line := range there {
			if !slices.Contains(here, line) {
				lines = append(lines, "\n    want "+line)
			}
		}
		if nearest == nil || len(lines) < len(nearest) {
			nearest = lines
		}
	}
	return strings.Join(nearest, "")
}

// followed checks the rows of a subscriber after the interleaving, and again after a copy has continued. One of the two outcomes must be that of
// a serial order.
func (h *harness) followed(ctx context.Context, p *pair, hist *history, rows map[string][]row) ([]violation, error) {
	found := h.subscribed(p, hist, rows)
	if hist.deadlocks > 0 && p.operations[0].mayDeadlock == "" && p.operations[1].mayDeadlock == "" {
		found = append(found, violation{deadlocked, "the two wait for each other"})
	}
	outcome := h.outcome(rows)
	if err := h.drain(ctx); err != nil {
		return nil, err
	}
	drained, err := h.rows(ctx)
	if err != nil {
		return nil, err
	}
	found = slices.Concat(found, h.subscribed(p, hist, drained), leftOf(drained))
	if p.formerSweep() || p.operations[0].overtaken != "" || p.operations[1].overtaken != "" || p.isSerial(hist.answers, outcome) {
		return found, nil
	}
	after := h.outcome(drained)
	if err := p.drain(ctx, h); err != nil {
		return nil, err
	}
	if !p.isOf(p.drained, heldAsApplied(hist.answers), after) {
		found = append(found, violation{serial, "the outcome is that of no serial order: " + p.differences(hist.answers, outcome)})
	}
	return found, nil
}

// versionsOf compares the orders with the log. The oldest events may be missing, because retention removes them.
func versionsOf(rows map[string][]row) (found []violation) {
	newest := make(map[string]int64)
	events := slices.Clone(rows["outbox"])
	slices.SortFunc(events, func(a, b row) int { return int(a.number("position") - b.number("position")) })
	for _, event := range events {
		aggregate, version := event.text("aggregate_id"), event.number("aggregate_version")
		if before, known := newest[aggregate]; known && version != before+1 {
			found = append(found, violation{versions, fmt.Sprintf("version %d of %s follows version %d", version, aggregate, before)})
		}
		newest[aggregate] = version
	}
	for _, order := range rows["orders"] {
		last, known := newest[order.text("id")]
		if stored := order.number("version"); stored != last && (known || stored > 1) {
			found = append(found, violation{versions, fmt.Sprintf("order %s has version %d, its last event %d", order.text("id"), stored, last)})
		}
	}
	for _, key := range rows["request_keys"] {
		if !slices.ContainsFunc(rows["orders"], func(o row) bool { return o.text("id") == key.text("order_id") }) {
			found = append(found, violation{versions, "the order of key " + key.text("key") + " does not exist"})
		}
	}
	return found
}

// sealingOf compares the keys of sealed events with the customers of their orders. A key that lost its customer is erased.
func sealingOf(rows map[string][]row) (found []violation) {
	customers := make(map[string]string)
	for _, order := range rows["orders"] {
		customers[order.text("id")] = order.text("customer_id")
	}
	owners := make(map[string]string)
	for _, key := range rows["customer_keys"] {
		owners[key.text("key_id")] = key.text("customer_id")
	}
	for _, event := range rows["outbox"] {
		headers, _ := event["headers"].(map[string]any)
		id, sealed := headers[outbox.HeaderSealedKey].(string)
		if !sealed {
			continue
		}
		of, owner := customers[event.text("aggregate_id")], owners[id]
		erased := strings.HasPrefix(of, fmt.Sprint(pseudonyms))
		if _, known := owners[id]; !known || owner != "" && owner != of || owner == "" && !erased {
			found = append(found, violation{sealing, fmt.Sprintf("event %s of the order of %q is sealed with a key of %q", event.text("event_id"), of, owner)})
		}
	}
	return found
}

// lotOf compares the parking lot with the stream.
func (h *harness) lotOf(rows map[string][]row) (found []violation) {
	for _, event := range rows["outbox_parked"] {
		state := event.text("state")
		for _, entry := range h.stream.Entries() {
			if entry.ID == event.text("event_id") && (state == "parked" || state == "discarded") {
				found = append(found, violation{parkedInStream, fmt.Sprintf("event %d is %s, and in the stream", entry.Position, state)})
			}
		}
	}
	return found
}

// revisionsOf compares the cursor's revision with the number of writes of the two operations. If a whole relay ran, this number is unknown.
func revisionsOf(rows map[string][]row, p *pair, hist *history) []violation {
	if p.relay() {
		return nil
	}
	want := int64(revision)
	for i, o := range p.operations {
		if o.fenced && hist.answers[i].err == nil {
			want++
		}
	}
	if want > revision+1 {
		return []violation{{revisions, "both operations used the same write fence"}}
	}
	if got := rows["outbox_cursor"][0].number("revision"); got != want {
		return []violation{{revisions, fmt.Sprintf("the cursor's revision is %d, not %d", got, want)}}
	}
	return nil
}

// later is an event that is written after the interleaving, so that the stream grows beyond the last message of the interleaving.
const later = `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
	VALUES ('90000000-0000-4000-8000-000000000001', 'order', '90000000-0000-4000-8000-000000000001', 1, 'later', 'orders.later', '{}')`

// relayAfterwards lets two relays finish the work, and checks the stream. The first relay publishes what is left. Then an operator marks all
// parked events, and the second relay redrives them. The broker accepts every event now.
func (h *harness) relayAfterwards(ctx context.Context, rows map[string][]row) (found []violation, err error) {
	if _, err := h.plain.ExecContext(ctx, later); err != nil {
		return nil, err
	}
	for range 2 {
		if _, err := h.plain.ExecContext(ctx, "UPDATE leases SET expires_at = '2020-01-01'"); err != nil {
			return nil, err
		}
		halt, err := h.relayed(ctx, h.plain)
		if err != nil {
			return nil, err
		}
		if halt != "" {
			return []violation{{afterwards, "the next relay halts: " + halt}}, nil
		}
		if _, err := postgres.NewParking(h.plain, relayName).Redrive(ctx, nil); err != nil {
			return nil, err
		}
	}
	stored := make(map[string]int)
	for _, entry := range h.stream.Entries() {
		stored[entry.ID]++
	}
	gone := make(map[string]string)
	for _, event := range rows["outbox_parked"] {
		gone[event.text("event_id")] = event.text("state")
	}
	judge := func(id string, position outbox.Position) {
		want := 1
		if gone[id] == "discarded" {
			want = 0
		}
		if stored[id] != want {
			found = append(found, violation{afterwards, fmt.Sprintf("event %d is in the stream %d times, not %d times", position, stored[id], want)})
		}
	}
	for _, entry := range log {
		judge(entry.ID, entry.Position)
	}
	for _, event := range rows["outbox"] {
		if position := event.number("position"); position > lastPosition {
			judge(event.text("event_id"), outbox.Position(position))
		}
	}
	return append(found, h.ordered()...), nil
}

// ordered checks the order of each aggregate's events in the stream.
func (h *harness) ordered() (found []violation) {
	last := make(map[outbox.Key]int64)
	for _, entry := range h.stream.Entries() {
		if entry.Version < last[entry.Key] {
			found = append(found, violation{afterwards, fmt.Sprintf("version %d of %s comes after version %d", entry.Version, entry.Key, last[entry.Key])})
		}
		last[entry.Key] = entry.Version
	}
	return found
}
