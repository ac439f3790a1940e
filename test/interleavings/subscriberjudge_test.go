package interleavings_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func money(minor int64) value.Money { return value.NewMoney(minor, "EUR") }

// recordEarly records that a handler is called for an event although an earlier event of its aggregate was neither applied nor discarded.
// calls are the earlier calls of the same transaction.
func (h *harness) recordEarly(ctx context.Context, entry outbox.Entry, calls []string) error {
	var before []string
	for _, event := range arrivals {
		if event.Key == entry.Key && event.Position < entry.Position && !slices.Contains(calls, event.ID) {
			before = append(before, event.ID)
		}
	}
	if len(before) == 0 {
		return nil
	}
	var missing []string
	err := h.plain.NewRaw(`SELECT id FROM unnest(?1::text[]) AS id
		WHERE NOT EXISTS (SELECT FROM inbox WHERE subscriber = ?0 AND event_id = id::uuid AND applied_at IS NOT NULL)
			AND NOT EXISTS (SELECT FROM dead_letters WHERE subscriber = ?0 AND event_id = id AND state = 'discarded')`,
		subscriber, pgdialect.Array(before)).Scan(ctx, &missing)
	for _, id := range missing {
		h.disorder = append(h.disorder, fmt.Sprintf("event %s is handled before event %s", shown(entry.ID), shown(id)))
	}
	return err
}

func shown(id string) string { return ids.ReplaceAllString(id, "$1/$2") }

// drain lets a copy continue whose handler never fails. The copy redelivers every letter that is being retried, at once. It does so even if an
// operator paused or forgot the subscriber, or changed its handler.
func (h *harness) drain(ctx context.Context) error {
	if _, err := h.plain.ExecContext(ctx, "UPDATE dead_letters SET due_at = '2020-01-01' WHERE state = 'retrying'"); err != nil {
		return err
	}
	if _, err := h.plain.ExecContext(ctx, "UPDATE subscribers SET paused_at = NULL, forgotten_at = NULL, handler = NULL"); err != nil {
		return err
	}
	in := inboxOf(&side{db: h.plain})
	applying := &handler{harness: h}
	for found := true; found; {
		var err error
		applying.calls = nil
		if _, found, err = in.Redeliver(ctx, subscriber, inbox.Redelivery{Limit: 100}, applying, judged(1)); err != nil {
			return err
		}
	}
	return nil
}

// subscribed checks the subscriber's rows, before and after the drain.
func (h *harness) subscribed(p *pair, hist *history, rows map[string][]row) (found []violation) {
	found = appliedAndDeadOf(rows)
	if p.formerSweep() {
		return found
	}
	for _, what := range h.disorder {
		found = append(found, violation{disorder, what})
	}
	return slices.Concat(found, effectsOf(rows), passedOf(p, hist, rows))
}

// takenOf returns the rows of the inbox by event.
func takenOf(rows map[string][]row) map[string]row {
	taken := make(map[string]row)
	for _, r := range rows["inbox"] {
		taken[r.text("event_id")] = r
	}
	return taken
}

// appliedAndDeadOf checks that no applied event has a dead letter. It leaves failing letters to leftOf.
func appliedAndDeadOf(rows map[string][]row) (found []violation) {
	taken := takenOf(rows)
	for _, letter := range rows["dead_letters"] {
		id, state := letter.text("event_id"), letter.text("state")
		if state != string(inbox.Failing) && taken[id]["applied_at"] != nil {
			found = append(found, violation{appliedAndDead, "event " + shown(id) + " is applied, and " + state})
		}
	}
	return found
}

// leftOf checks that the drain leaves only dead letters, letters behind dead ones, and failing letters of events that were not dealt with.
func leftOf(rows map[string][]row) (found []violation) {
	taken := takenOf(rows)
	letters := slices.Clone(rows["dead_letters"])
	slices.SortFunc(letters, func(a, b row) int { return int(a.number("position") - b.number("position")) })
	holds := make(map[string]bool) // by aggregate
	for _, letter := range letters {
		id, state, aggregate := letter.text("event_id"), inbox.LetterState(letter.text("state")), letter.text("aggregate_id")
		switch {
		case state == inbox.Dead:
			holds[aggregate] = true
		case state == inbox.Failing && taken[id]["applied_at"] != nil:
			found = append(found, violation{appliedAndDead, "event " + shown(id) + " is applied, and its letter fails for ever"})
		case state == inbox.Failing && taken[id] != nil:
			found = append(found, violation{stranded, "event " + shown(id) + " was dealt with, and its letter fails for ever"})
		case (state == inbox.Waiting || state == inbox.Retrying) && !holds[aggregate]:
			found = append(found, violation{stranded, "event " + shown(id) + " is " + string(state) + ", behind nothing, and nobody redelivers it"})
		}
	}
	return found
}

// effectsOf compares the effects with the inbox. If the stream does not have an event any more, its inbox row may be missing.
func effectsOf(rows map[string][]row) (found []violation) {
	taken := takenOf(rows)
	sums := make(map[string]int64)
	for _, total := range rows["customer_totals"] {
		sums[total.text("customer_id")] = total.number("amount_minor") + total.number("amount") // of former programs, and of this one
	}
	for _, event := range arrivals {
		customer, amount := effectOf(event.ID)
		times := sums[string(customer)] / amount % 4
		here, known := taken[event.ID]
		switch want := int64(1); {
		case !known && event.Sequence < firstHeld && times <= 1:
		case !known || here["applied_at"] == nil:
			want = 0
			fallthrough
		default:
			if times != want {
				found = append(found, violation{effects, fmt.Sprintf("event %s took effect %d times, not %d times", shown(event.ID), times, want)})
			}
		}
	}
	return found
}

// passedOf checks that no lane has passed an event that was not applied, discarded or made a dead letter. It checks the events up to the
// checkpoint of the state, the events of the batch that moved the lane, and the events of the log up to the lane's progress. The event regrown
// counts only if an operation assumes that the stream has lost its end.
func passedOf(p *pair, hist *history, rows map[string][]row) (found []violation) {
	if slices.ContainsFunc(p.operations[:], func(o *operation) bool { return o != nil && o.skips }) {
		return nil
	}
	taken := takenOf(rows)
	for _, letter := range rows["dead_letters"] {
		if id := letter.text("event_id"); letter["position"] == nil {
			taken[id] = letter
		}
	}
	regrew := slices.ContainsFunc([]int{0, 1}, func(i int) bool {
		return p.operations[i] != nil && p.operations[i].regrows && hist.answers[i].err == nil
	})
	for _, at := range rows["subscriber_lanes"] {
		lane, sequence := int(at.number("lane")), at.number("sequence")
		if at.text("subscriber") != subscriber || at.text("stream") != knownStream {
			continue
		}
		here := slices.Clone(batches[endOf(lane, sequence)].Events)
		for _, event := range arrivals {
			before := checkpoints[inbox.LaneOf(event.Key, lanes)]
			stored := event.Sequence >= firstHeld && event.Sequence <= before && (event.Sequence != regrown.Sequence || regrew)
			if stored && inbox.LaneOf(event.Key, int(at.number("lanes"))) == lane {
				here = append(here, event)
			}
		}
		for _, event := range arrivals {
			missed := taken[event.ID] == nil && int64(event.Sequence) > sequence && int64(event.Position) <= progressOf(at)
			if missed && (event.Sequence != regrown.Sequence || regrew) && inbox.LaneOf(event.Key, int(at.number("lanes"))) == lane {
				found = append(found, violation{passed, fmt.Sprintf("lane %d has dealt with the log up to %d, and nobody with %s",
					lane, progressOf(at), shown(event.ID))})
			}
		}
		for _, event := range here {
			if _, known := taken[event.ID]; !known && int64(event.Sequence) <= sequence {
				found = append(found, violation{passed, fmt.Sprintf("lane %d is at %d, and nobody has dealt with %s", lane, sequence, shown(event.ID))})
			}
		}
	}
	return found
}

// progressOf returns the position of the log that a lane has reached; 0: unknown.
func progressOf(lane row) int64 {
	if lane["progress"] == nil {
		return 0
	}
	return lane.number("progress")
}

// forgottenOf checks that the inbox knows each event that the log can publish again.
func forgottenOf(rows map[string][]row) (found []violation) {
	taken := takenOf(rows)
	for _, event := range sweptEvents {
		for _, table := range []string{"outbox", "outbox_parked"} {
			kept := slices.ContainsFunc(rows[table], func(r row) bool { return r.text("event_id") == event.ID })
			if _, known := taken[event.ID]; kept && !known {
				found = append(found, violation{forgotten, fmt.Sprintf("event %d is forgotten, and in %s", event.Position, table)})
			}
		}
	}
	return found
}

// heldAsApplied returns the answers with "applied" in place of "held". If the last letter of an aggregate ends at the same time, the
// next event may be held or applied: a held one is applied in the drain.
func heldAsApplied(answers [2]answer) [2]answer {
	for i := range answers {
		answers[i].text = strings.ReplaceAll(answers[i].text, "held", "applied")
	}
	return answers
}
