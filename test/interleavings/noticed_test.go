package interleavings_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// refusal becomes leader and refuses a redrive in the database only, without a control message in the stream. So a leader that was frozen before
// its append can still append.
var refusal = &operation{name: "refuse without a notice", relay: true, do: func(ctx context.Context, s *side) (string, error) {
	term, err := elector(s).Acquire(ctx, 0)
	if err != nil {
		return "", err
	}
	cursor, err := cursors(s).Load(ctx)
	if err != nil {
		return "", err
	}
	stream := &gatedStream{StreamRepair: s.harness.stream, side: s}
	info, err := stream.Open(ctx, 0)
	if err != nil {
		return "", err
	}
	tail, err := stream.At(ctx, info.LastSequence)
	if err != nil {
		return "", err
	}
	now := relay.WriteFence{Token: term.Token, Revision: cursor.Revision}
	if _, err := parking(s).Reconcile(ctx, now, tail, info.LastSequence, true); err != nil {
		return "", err
	}
	due, _, err := parking(s).Due(ctx, lastPosition, relay.ReadLimit{Count: 10, Bytes: 1 << 20})
	if err != nil || len(due) == 0 {
		return "", err
	}
	_, err = s.db.ExecContext(ctx, `UPDATE outbox_parked SET state = 'parked', changed_at = clock_timestamp()
		WHERE aggregate_id = ? AND state = 'redrive'`, due[0].Key.ID)
	return "", err
}}

// total changes a customer's total in two statements, or in one.
func total(name string, statements ...string) *operation {
	return &operation{name: name, do: func(ctx context.Context, s *side) (string, error) {
		var read int64
		for _, statement := range statements {
			err := s.db.QueryRowContext(ctx, statement, read).Scan(&read)
			if err != nil {
				return "", err
			}
		}
		return "", nil
	}}
}

var (
	racy = total("read and write", "SELECT amount_minor + 100 FROM customer_totals WHERE ? = 0 AND currency = 'USD'",
		"UPDATE customer_totals SET amount_minor = ? WHERE currency = 'USD' RETURNING 0")
	sound = total("write", "UPDATE customer_totals SET amount_minor = amount_minor + 100 + ? WHERE currency = 'USD' RETURNING 0")
)

// changeBoth changes order a and then order b in one transaction.
func changeBoth(name string, a, b string) *operation {
	return &operation{name: name, do: func(ctx context.Context, s *side) (string, error) {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return "", err
		}
		defer func() { _ = tx.Rollback() }()
		for _, id := range []string{a, b} {
			if _, err := tx.ExecContext(ctx, "UPDATE orders SET amount_minor = amount_minor + 1 WHERE id = ?", id); err != nil {
				return "", postgres.ErrUnavailable.Wrap(err) // the victim of a deadlock
			}
		}
		return "", tx.Commit()
	}}
}

// plantedOperations are wrong operations, which the checks must notice.
var plantedOperations = []*operation{refusal, racy, sound, changeBoth("one and other", created, paid), changeBoth("other and one", paid, created)}

// plantedHarness returns a harness, and the profiles of the named operations in it.
func plantedHarness(t *testing.T, names ...string) (*harness, map[*operation]profile) {
	t.Helper()
	h := newHarness(t)
	var wanted []*operation
	for _, name := range names {
		wanted = append(wanted, named(name))
	}
	known, err := profiles(t.Context(), h, wanted)
	require.NoError(t, err)
	return h, known
}

func explored(t *testing.T, a, b string) result {
	t.Helper()
	h, known := plantedHarness(t, a, b)
	p := newPair(named(a), named(b), known)
	require.NoError(t, p.prepare(t.Context(), h))
	r := result{failed: make(map[string]failure)}
	p.explore(t.Context(), h, &r, 1000)
	require.NoError(t, r.err)
	require.True(t, r.whole)
	return r
}

// TestRefusalWithoutANoticeIsNoticed checks that the checks lot and afterwards fail if a leader refuses a redrive only in the database while a
// former leader redrives.
func TestRefusalWithoutANoticeIsNoticed(t *testing.T) {
	h, known := plantedHarness(t, "relay redrives", refusal.name)
	p := newPair(named("relay redrives"), refusal, known)
	rng := rand.New(rand.NewPCG(1, 1))
	r := result{failed: make(map[string]failure)}
	for r.run < maxRuns && len(r.failed) < 2 {
		left := [2]int{known[p.operations[0]].steps, known[p.operations[1]].steps}
		require.NoError(t, p.try(t.Context(), h, &randomChooser{rng: rng, left: left}, &r))
	}
	require.Contains(t, r.failed, parkedInStream)
	require.Contains(t, r.failed, afterwards)
	require.Contains(t, r.failed[afterwards].detail, "in the stream 2 times")
}

// TestLostUpdateIsNoticed checks that the serial check finds the update that a read and a write in two statements lose, and finds nothing for
// one statement.
func TestLostUpdateIsNoticed(t *testing.T) {
	r := explored(t, racy.name, racy.name)
	require.Contains(t, r.failed, serial)
	require.Contains(t, r.failed[serial].detail, "amount=200")
	require.Empty(t, explored(t, sound.name, sound.name).failed)
}

// TestEveryMergeIsRun checks that each merge of the steps is run once, if nothing waits.
func TestEveryMergeIsRun(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"place", "renew", 10}, {"place", "report a halt", 10}} {
		h, known := plantedHarness(t, c.a, c.b)
		p := newPair(named(c.a), named(c.b), known)
		require.EqualValues(t, c.want, p.merges)
		var e explorer
		seen := make(map[string]bool)
		for more := true; more; more = e.next() {
			hist, err := h.interleave(t.Context(), normal, p.operations, &e)
			require.NoError(t, err)
			require.Zero(t, hist.blocked)
			seen[hist.sequence()] = true
		}
		require.Len(t, seen, c.want)
	}
}

// TestDeadlocksEnd checks that each side of a deadlock is the victim once, and is tried again.
func TestDeadlocksEnd(t *testing.T) {
	r := explored(t, "one and other", "other and one")
	require.Positive(t, r.deadlocks)
	require.Zero(t, r.deadlocks%2, "each is the victim as often as the other")
	require.Empty(t, r.failed)
	require.Zero(t, explored(t, "one and other", "one and other").deadlocks)
}

// TestWaitingIsNoOption checks that a step that waits for a lock runs as soon as the lock is free, so that there are fewer interleavings.
func TestWaitingIsNoOption(t *testing.T) {
	r := explored(t, sound.name, sound.name)
	require.Equal(t, 4, r.run, "of six merges: one side's write waits for the other one's commit")
	require.Positive(t, r.blocked)
}

// TestReducedSetHasAllOutcomes checks that the reduced set of interleavings has the same outcomes as all of them.
func TestReducedSetHasAllOutcomes(t *testing.T) {
	for _, c := range [][2]string{{"apply: one new", "before: fail: new"}, {"pay", "cancel"}, {racy.name, racy.name}, {"apply: one new", "look: known"}} {
		h, known := plantedHarness(t, c[0], c[1])
		p := newPair(named(c[0]), named(c[1]), known)
		outcomes := func(e *explorer) (found []string, runs int) {
			for more := true; more; more = e.next() {
				hist, outcome, err := p.run(t.Context(), h, p.operations, e)
				require.NoError(t, err)
				if text := answered(hist.answers, outcome); !e.redundant {
					runs++
					if !slices.Contains(found, text) {
						found = append(found, text)
					}
				}
			}
			return found, runs
		}
		every, all := outcomes(&explorer{})
		reduced, some := outcomes(&explorer{reduced: true})
		require.ElementsMatch(t, every, reduced)
		require.Less(t, some, all)
		t.Logf("%s: %d of %d interleavings, %d outcomes", p, some, all, len(every))
	}
}
