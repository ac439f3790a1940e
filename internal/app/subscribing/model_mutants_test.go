package subscribing_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// mutant is a change that breaks a promise.
type mutant struct {
	copies func(*process) // changes the ports of a copy
	long   bool           // only long runs show the change
	// external reports that only runs with an external handler show the change.
	external bool
	ageless  bool     // calls are made however old the transaction is
	checks   []string // the checks that must find the broken promise
}

var mutants = map[string]mutant{
	"the inbox knows nothing":          {copies: func(p *process) { p.apply = p.forgetRecords }, checks: []string{checkOnce}},
	"letters hold nothing":             {copies: func(p *process) { p.apply = p.scatterAggregates }, checks: []string{checkOrder}},
	"letters in their own transaction": {copies: func(p *process) { p.apply = p.commitLettersFirst }, checks: []string{checkOrder}},
	"the lane moves before the events": {copies: func(p *process) { p.apply = p.moveFirst }, checks: []string{checkLost, checkOrder}},
	"no compare-and-swap": {
		copies: func(p *process) { p.apply = p.ignoreCheckpoint }, long: true, checks: []string{checkOnce, checkOrder},
	},
	"stored time checked only when a reader opens": {
		copies: func(p *process) { p.cachedTimes = make(map[uint64]time.Time) }, checks: []string{checkLost, checkOrder},
	},
	"passes over holes":                {copies: func(p *process) { p.ignoresHoles = true }, checks: []string{checkLost, checkOrder}},
	"no compare-and-swap of revisions": {copies: func(p *process) { p.apply = p.ignoreRevision }, checks: []string{checkPaused}},
	"letters hold no call": {
		copies: func(p *process) { p.apply = p.scatterAggregates }, external: true, checks: []string{checkCalls},
	},
	"calls at any age": {ageless: true, external: true, checks: []string{checkPaused}},
	"lane by position": {copies: func(p *process) { p.lanesByPosition = true }, checks: []string{checkOrder}},
}

// TestMutants checks that TestModel can fail: each mutant breaks a promise, and a check of that promise must fail in some run. The test
// does not run under the race detector, which would find nothing more here than in TestModel.
func TestMutants(t *testing.T) {
	if underRace {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10 * runs) {
				problem, _ := run(t, seed, mutants[name])
				if slices.ContainsFunc(mutants[name].checks, func(check string) bool { return strings.HasPrefix(problem, check) }) {
					t.Logf("noticed in run %d: %s", seed, problem)
					return
				}
			}
			t.Fatalf("no check of %q noticed it in %d runs", mutants[name].checks, 10*runs)
		})
	}
}

// applyFunc has the arguments of inbox.UnitOfWork.Apply. The functions below break a promise of Apply, and otherwise do the same.
type applyFunc func(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error)

// forgetRecords applies a batch without the records of earlier transactions.
func (p *process) forgetRecords(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	var ids []string
	for _, event := range batch.Events {
		ids = append(ids, event.ID)
	}
	if _, err := p.Inbox.Sweep(ctx, subscriber, batch.From.Stream, ids, math.MaxUint64, 0); err != nil {
		return inbox.Outcome{}, err
	}
	return p.Inbox.Apply(ctx, subscriber, batch, handler, judge)
}

// scatterAggregates gives each event an aggregate of its own, so that no event waits for the letter of another one.
func (p *process) scatterAggregates(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	for i, event := range batch.Events {
		if event.Unreadable == nil {
			batch.Events[i].Key.ID = event.ID
		}
	}
	return p.Inbox.Apply(ctx, subscriber, batch, handler, judge)
}

// failing is a handler that fails.
type failing struct {
	inbox.Handler
	reason error
}

func (f failing) Handle(context.Context, inbox.Tx, outbox.Entry) error { return f.reason }

// commitLettersFirst commits the letter of a failed event in a transaction of its own, before it applies the batch.
func (p *process) commitLettersFirst(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	errFirst, id, reason := errors.New("commit the letter first"), "", error(nil)
	outcome, err := p.Inbox.Apply(ctx, subscriber, batch, handler, func(entry outbox.Entry, attempts int, failure error) (inbox.Failure, error) {
		if judged, err := judge(entry, attempts, failure); err != nil {
			return judged, err
		}
		id, reason = entry.ID, failure
		return inbox.Failure{}, errFirst
	})
	if !errors.Is(err, errFirst) {
		return outcome, err
	}
	at := slices.IndexFunc(batch.Events, func(event inbox.Event) bool { return event.ID == id })
	alone := inbox.Batch{From: batch.From, To: batch.From.StreamPosition, Events: batch.Events[at : at+1]}
	first, err := p.Inbox.Apply(ctx, subscriber, alone, failing{handler, reason}, judge)
	if err != nil {
		return inbox.Outcome{}, err
	}
	if !p.h.faultFree() {
		sleep(ctx, 2*time.Second) // the letter is due before the batch is applied
	}
	batch.From = first.Checkpoint
	outcome, err = p.commitLettersFirst(ctx, subscriber, batch, handler, judge)
	outcome.Letters = append(first.Letters, outcome.Letters...)
	return outcome, err
}

// moveFirst commits the new position of the lane before it applies the events.
func (p *process) moveFirst(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	if len(batch.Events) > 0 {
		moved, err := p.Inbox.Apply(ctx, subscriber, inbox.Batch{From: batch.From, To: batch.To}, handler, judge)
		if err != nil {
			return inbox.Outcome{}, err
		}
		batch.From = moved.Checkpoint
	}
	return p.Inbox.Apply(ctx, subscriber, batch, handler, judge)
}

// ignoreCheckpoint applies a batch wherever the lane is now.
func (p *process) ignoreCheckpoint(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	present, err := p.present(ctx, subscriber, batch.From)
	if err != nil {
		return inbox.Outcome{}, err
	}
	batch.From = present
	return p.Inbox.Apply(ctx, subscriber, batch, handler, judge)
}

// ignoreRevision applies a batch if the lane is at the same position, although an operator has changed the subscriber.
func (p *process) ignoreRevision(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	present, err := p.present(ctx, subscriber, batch.From)
	if err != nil {
		return inbox.Outcome{}, err
	}
	batch.From.Revision = present.Revision
	return p.Inbox.Apply(ctx, subscriber, batch, handler, judge)
}

// present returns the checkpoint that a lane has now. If the lane does not exist any more, present returns known.
func (p *process) present(ctx context.Context, subscriber string, known inbox.Checkpoint) (inbox.Checkpoint, error) {
	overviews, err := memory.NewOperator(p.Inbox).Overviews(ctx)
	if err != nil {
		return inbox.Checkpoint{}, err
	}
	for _, overview := range overviews {
		if overview.Subscriber == subscriber && known.Lane < len(overview.Lanes) {
			return overview.Lanes[known.Lane], nil
		}
	}
	return known, nil
}
