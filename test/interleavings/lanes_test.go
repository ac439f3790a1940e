package interleavings_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// inboxOf returns the inbox of one side. A schedule may leave a transaction idle for long.
func inboxOf(s *side) *postgres.Inbox {
	return postgres.NewInbox(s.db, postgres.InboxOptions{IdleTimeout: time.Hour})
}

// handler is the handler of one call. It fails for some events. It records in the harness if it is called for an event before an earlier event
// of the aggregate was applied or discarded.
type handler struct {
	harness *harness
	fails   []string // ids of events
	calls   []string
	emits   string // aggregate of which it emits an event for each call; empty: none
}

var errHandler = errors.New("the handler fails")

func (h *handler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	if err := h.harness.recordEarly(ctx, entry, h.calls); err != nil {
		return err
	}
	if slices.Contains(h.fails, entry.ID) {
		return errHandler
	}
	h.calls = append(h.calls, entry.ID)
	if err := h.emit(ctx, tx, entry); err != nil {
		return err
	}
	customer, amount := effectOf(entry.ID)
	return postgres.NewTotals().Add(ctx, tx, customer, money(amount))
}

// emit emits an event of the aggregate in emits, if there is one. The aggregate's versions begin with 1.
func (h *handler) emit(ctx context.Context, tx inbox.Tx, cause outbox.Entry) error {
	if h.emits == "" {
		return nil
	}
	return postgres.NewEmitter().Emit(ctx, tx, cause, outbox.Message{
		Type: "outboxie.test.happened.v1", Subject: "orders.happened", Key: outbox.Key{Type: "follower", ID: h.emits},
		Version: int64(len(h.calls)), Payload: []byte("{}"),
	})
}

func (*handler) Name() string    { return "test" }
func (*handler) Types() []string { return nil }
func (*handler) External() bool  { return false }

func (*handler) Applied(context.Context, outbox.Entry) {}

// judged returns a failure policy that makes an event dead after limit failures.
func judged(limit int) inbox.FailurePolicy {
	return func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		if !errors.Is(err, errHandler) {
			return inbox.Failure{}, err
		}
		return inbox.Failure{Cause: err, Limit: limit, Wait: 2 * leaseTTL}, nil
	}
}

// inboxed returns an operation on the inbox of one side, in a state of the subscriber. method is named as in driven, for example
// inbox.Checkpoints.CreateLanes.
func inboxed(in *state, method, name string, do func(ctx context.Context, i *postgres.Inbox) (string, error)) *operation {
	return &operation{name: name, methods: []string{method}, in: in, do: func(ctx context.Context, s *side) (string, error) {
		return do(ctx, inboxOf(s))
	}}
}

// batch is one call of Apply. Each batch has a different end, so that the lane shows which batch was applied.
type batch struct {
	inbox.Batch
	fails []inbox.Event
	limit int
	emits string
}

// batches holds the batches of all operations, by the lane and the sequence at which they end.
var (
	batches = make(map[string]batch)
	made    uint64
)

func endOf(lane int, sequence int64) string { return fmt.Sprintf("lane %d at %d", lane, sequence) }

// newBatch returns a batch that begins at the checkpoint of a lane.
func newBatch(lane int, events ...inbox.Event) batch {
	made += 2 // ends differ by two, because a copy that finds nothing new moves the lane by one
	b := batch{Batch: inbox.Batch{From: checkpoint(lane), To: positionAt(checkpoints[lane] + endsAt + made), Events: events}, limit: 10}
	batches[endOf(lane, int64(b.To.Sequence))] = b
	return b
}

func suspect(event inbox.Event) inbox.Event {
	event.Suspect = true
	return event
}

func withoutHandler(event inbox.Event) inbox.Event {
	event.NoHandler = true
	return event
}

// atSequence returns an event that the stream holds a second time, at a later sequence.
func atSequence(event inbox.Event, sequence uint64) inbox.Event {
	event.Sequence = sequence
	return event
}

func message(id string, sequence uint64) inbox.Event {
	return inbox.Event{Entry: outbox.Entry{Message: outbox.Message{ID: id, Subject: "x", Payload: []byte("{}")}}, Sequence: sequence, Unreadable: inbox.ErrUnreadable}
}

func apply(in *state, name string, b batch) *operation {
	return refusing(&operation{name: name, methods: []string{"inbox.UnitOfWork.Apply"}, in: in, do: func(ctx context.Context, s *side) (string, error) {
		return b.apply(ctx, s)
	}}, busy)
}

var busy = map[string]string{"lane_moved": "another transaction works on the lane; the copy looks again"}

func (b batch) apply(ctx context.Context, s *side) (string, error) {
	h := &handler{harness: s.harness, emits: b.emits}
	for _, event := range b.fails {
		h.fails = append(h.fails, event.ID)
	}
	outcome, err := inboxOf(s).Apply(ctx, subscriber, b.Batch, h, judged(b.limit))
	var failed *inbox.EventError
	if errors.Is(err, errHandler) && errors.As(err, &failed) {
		return "", fmt.Errorf("event %d fails", failed.Index) // the same text in each run
	}
	var results []string
	for _, result := range outcome.Results {
		results = append(results, []string{"applied", "duplicate", "set aside", "held"}[result])
	}
	for _, letter := range outcome.Letters {
		results = append(results, fmt.Sprint(letter.State, letter.Attempts))
	}
	return strings.Join(results, ", "), err
}

// failing makes the handler fail for some events of the batch. An event is dead after limit failures.
func (b batch) failing(limit int, events ...inbox.Event) batch {
	b.fails, b.limit = events, limit
	return b
}

// emitting makes the handler of the batch emit events of an aggregate.
func (b batch) emitting(aggregate string) batch {
	b.emits = aggregate
	batches[endOf(b.From.Lane, int64(b.To.Sequence))] = b
	return b
}

// to makes the batch end at another sequence.
func (b batch) to(sequence uint64) batch {
	delete(batches, endOf(b.From.Lane, int64(b.To.Sequence)))
	b.To = positionAt(sequence)
	batches[endOf(b.From.Lane, int64(sequence))] = b
	return b
}

// stale makes the batch begin before the lane's last move, as in a copy that has not seen this move.
func (b batch) stale() batch {
	b.From.StreamPosition, b.From.Revision = positionAt(b.From.Sequence-1), laneRevision-1
	return b
}

// filled makes the events of the batch come from the log. Before them, the stream has removed the messages in missed, whose events are unknown.
func (b batch) filled(missed inbox.MissedMessages) batch {
	b.FromLog, b.Missed = len(b.Events), missed
	batches[endOf(b.From.Lane, int64(b.To.Sequence))] = b
	return b
}

// chunk makes the batch hold only the first events of a hole. The lane stays at the message before the hole, and only its progress rises.
func (b batch) chunk() batch {
	delete(batches, endOf(b.From.Lane, int64(b.To.Sequence)))
	b.To = b.From.StreamPosition
	b.To.Progress = b.Events[len(b.Events)-1].Position
	b.FromLog = len(b.Events)
	return b
}

// copyName is the copy that announces itself in catchUp. Its announcement is no part of an outcome.
const copyName = "copy"

// catchUp does what a copy does: it reads the lane's checkpoint, and applies the messages after it. If the lane moves meanwhile, it reads again.
func catchUp(in *state, name string) *operation {
	last := newBatch(0, b2, b3)
	delete(batches, endOf(0, int64(last.To.Sequence))) // the events that it applies depend on the checkpoint that it reads
	once := func(ctx context.Context, s *side) (string, error) {
		view, err := inboxOf(s).Heartbeat(ctx, subscriber, copyName)
		if err != nil {
			return "", err
		}
		switch {
		case len(view.Lanes) == 0:
			return "forgotten", nil
		case view.Paused:
			return "rests", nil
		}
		now := last
		now.From = view.Lanes[0]
		now.To.Sequence = max(now.To.Sequence, now.From.Sequence+1)
		now.Events = slices.DeleteFunc(slices.Clone(now.Events), func(e inbox.Event) bool { return e.Sequence <= view.Lanes[0].Sequence })
		if view.Lanes[0].Sequence < regrown.Sequence {
			now.Events = slices.Insert(now.Events, 0, regrown)
		}
		now.Events = slices.DeleteFunc(now.Events, func(e inbox.Event) bool { return inbox.LaneOf(e.Key, now.From.Lanes) != 0 })
		return now.apply(ctx, s)
	}
	return refusing(&operation{name: name, methods: []string{"inbox.Checkpoints.Heartbeat", "inbox.UnitOfWork.Apply"}, in: in, do: func(ctx context.Context, s *side) (string, error) {
		text, err := once(ctx, s)
		for tries := 1; tries < 3 && errors.Is(err, inbox.ErrLaneMoved); tries++ {
			text, err = once(ctx, s)
		}
		return text, err
	}}, busy)
}

func rewind(in *state, name, stream string, from inbox.Checkpoint, to uint64) *operation {
	o := inboxed(in, "inbox.Checkpoints.Rewind", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		checkpoint, err := i.Rewind(ctx, subscriber, from, stream, positionAt(to))
		return fmt.Sprintf("%s %d, revision %d", checkpoint.Stream, checkpoint.Sequence, checkpoint.Revision), err
	})
	refusing(o, busy)
	o.regrows = stream == knownStream && from.Lane == 0
	return o
}

// begin creates the lanes of a subscriber.
func begin(name, who string, count int) *operation {
	return inboxed(&openState, "inbox.Checkpoints.CreateLanes", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.CreateLanes(ctx, who, count, knownStream, positionAt(7))
	})
}

// subscribe adds event types to the subscriber. Of two copies with different handlers one is refused.
func subscribe(name, handler string, types ...string) *operation {
	return inboxed(&openState, "inbox.Checkpoints.Subscribe", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.Subscribe(ctx, subscriber, handler, types)
	})
}

func look(name, instance string) *operation {
	return guessing(inboxed(&openState, "inbox.Checkpoints.Heartbeat", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		view, err := i.Heartbeat(ctx, subscriber, instance)
		lanes := make([]string, len(view.Lanes))
		for i, lane := range view.Lanes {
			lanes[i] = fmt.Sprintf("%d: %d, revision %d", lane.Lane, lane.Sequence, lane.Revision)
		}
		copies := slices.DeleteFunc(view.Copies, func(name string) bool { return name == copyName })
		return fmt.Sprint(lanes, copies), err
	}), map[string]string{
		"ok [0: 50, revision 3 1: 5000, revision 3] [" + instance + "]": "of two copies that announce themselves at once, neither sees the other one",
	})
}

// hidden are the events of the first lane that the stream has lost after the checkpoint, in order.
var hidden = []inbox.Event{f1, a4, b2, b3}

// laneOperations are the operations on lanes in the state open, where no letter holds an event.
var laneOperations = []*operation{
	apply(&openState, "apply: new", newBatch(0, b2, b3)),
	apply(&openState, "apply: one new", newBatch(0, b2)),
	apply(&openState, "apply: nothing", newBatch(0)),
	apply(&openState, "apply: another lane", newBatch(1, elsewhere)),
	apply(&openState, "apply: emits", newBatch(0, b2, b3).emitting("one")),
	apply(&openState, "apply: emits, suspect", newBatch(0, suspect(b2), b3).emitting("one")),
	deadlocking(apply(&openState, "apply: emits of the same from another lane", newBatch(1, elsewhere).emitting("one")),
		"handlers of two lanes write the same rows: the other one writes event after event if one is suspect, so in the order of the events"),
	apply(&openState, "apply: new, from a checkpoint of before", newBatch(0, b2, b3).stale()),
	apply(&openState, "apply: new and applied before", newBatch(0, atSequence(old, 53), atSequence(unmet, 54), atSequence(b1, 55), atSequence(b2, 56)).to(endsAt)),
	apply(&openState, "apply: discarded before", newBatch(0, atSequence(given, 53))),
	apply(&openState, "apply: up to a mark", newBatch(0, b2).to(inbox.MarkEvery)),
	apply(&openState, "apply: suspect, which succeeds", newBatch(0, suspect(b2), b3)),
	apply(&openState, "apply: suspect, which fails", newBatch(0, suspect(b2), b3, d2).failing(2, b2)),
	apply(&openState, "apply: suspect, which fails to its death", newBatch(0, b2, suspect(b3), d2).failing(1, b3)),
	apply(&openState, "apply: failing, not suspect", newBatch(0, d2, b2).failing(1, b2)),
	apply(&openState, "apply: unreadable", newBatch(0, message("unreadable message 10", 53), b2)),
	apply(&openState, "apply: unreadable, met before", newBatch(0, message(unreadable, 53), b2)),
	apply(&openState, "apply: failed before", newBatch(0, f1)),
	apply(&openState, "apply: failed before, and fails to its death", newBatch(0, suspect(f1), b2).failing(2, f1)),
	apply(&openState, "apply: from the log", newBatch(0, b2, b3).filled(inbox.MissedMessages{})),
	apply(&openState, "apply: from the log, after what nobody knows", newBatch(0, atSequence(old, 52), b2).filled(inbox.MissedMessages{First: 51, Count: 2})),
	apply(&openState, "apply: from the log, another lane", newBatch(1, elsewhere).filled(inbox.MissedMessages{First: 52, Count: 3})),
	apply(&openState, "apply: from the log, a part of a hole", newBatch(0, hidden...).chunk()),
	apply(&openState, "apply: from the log, a smaller part of a hole", newBatch(0, hidden[:2]...).chunk()),
	catchUp(&openState, "look, and apply what follows"),
	rewind(&openState, "rewind", knownStream, checkpoint(0), 40),
	rewind(&openState, "rewind another lane", knownStream, checkpoint(1), 4000),
	rewind(&openState, "rewind to another stream", "2", checkpoint(0), 0),
	apply(&openState, "apply: no handler", newBatch(0, withoutHandler(b2), b3, d2)),
	apply(&openState, "apply: no handler, failed before", newBatch(0, withoutHandler(f1), b2)),
	subscribe("subscribe to new types", "totals", "b", "a"),
	subscribe("subscribe to other new types", "totals", "a", "c"),
	subscribe("subscribe with another handler", "another", "a"),
	begin("begin again", subscriber, lanes+1),
	begin("begin for the first time", "another", 2),
	look("look: known", "instance"),
	look("look: new", "another instance"),
	inboxed(&openState, "inbox.Checkpoints.RemoveCopy", "leave", func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.RemoveCopy(ctx, subscriber, "instance")
	}),
}
