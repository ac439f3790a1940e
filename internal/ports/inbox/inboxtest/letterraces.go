package inboxtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func lettersLease(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.kill(t, d.other)
	d.retry(t, d.events[0])
	d.retry(t, d.other)
	var claimed sync.Map
	var copies sync.WaitGroup
	for range 8 {
		copies.Go(func() {
			letter, found, err := d.Due(t.Context(), subscriber, time.Hour)
			if err != nil {
				t.Error(err)
			} else if _, twice := claimed.LoadOrStore(letter.ID, true); found && twice {
				t.Errorf("%s was handed out twice", letter.ID)
			}
		})
	}
	copies.Wait()
	for _, entry := range []outbox.Entry{d.events[0], d.other} {
		_, found := claimed.Load(entry.ID)
		require.True(t, found)
	}
	d.kill(t, d.other)
	d.retry(t, d.other)
	for range 3 { // a lease that has ended
		letter, found, err := d.Due(t.Context(), subscriber, 0)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, d.other.ID, letter.ID)
	}
}

func lettersConcurrently(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.retry(t, d.events[0])
	var copies sync.WaitGroup
	for range 16 {
		copies.Go(func() {
			if _, err := d.UnitOfWork().Once(t.Context(), subscriber, d.events[0], d.add); err != nil {
				t.Error(err)
			}
		})
	}
	copies.Wait()
	d.requireEffects(t, 1)
	d.requireNoLetter(t, d.events[0])
}

// lettersRace : while an event is applied, or discarded, the next one is put behind it. It gets its turn, whichever was
// first.
func lettersRace(t *testing.T, d desk) {
	const rounds = 40
	entries := outboxtest.NewEntries(100, rounds)
	for i := range entries {
		entries[i].Key = d.events[0].Key
	}
	d.kill(t, entries[0])
	d.retry(t, entries[0])
	for i := range rounds - 1 {
		d.requireDue(t, entries[i])
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := d.SetAside(t.Context(), subscriber, entries[i+1]); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = d.UnitOfWork().Once(t.Context(), subscriber, entries[i], d.add)
			} else {
				err = d.Discard(t.Context(), subscriber, entries[i].ID)
			}
			if err != nil {
				t.Error(err)
			}
		})
		both.Wait()
	}
	d.requireDue(t, entries[rounds-1])
	d.requireEffects(t, rounds/2)
}

// lettersEither : an operator discards an event while a copy applies it.
func lettersEither(t *testing.T, d desk) {
	effects := int64(0)
	for _, entry := range outboxtest.NewEntries(100, 40) {
		d.kill(t, entry)
		d.retry(t, entry)
		var applied bool
		var discarding, applying error
		var both sync.WaitGroup
		both.Go(func() { discarding = d.Discard(t.Context(), subscriber, entry.ID) })
		both.Go(func() { applied, applying = d.UnitOfWork().Once(t.Context(), subscriber, entry, d.add) })
		both.Wait()
		require.NoError(t, applying)
		if applied {
			effects++
			require.ErrorIs(t, discarding, inbox.ErrNoLetter)
			d.requireNoLetter(t, entry)
		} else {
			require.NoError(t, discarding)
			d.requireState(t, entry, inbox.Discarded)
		}
		d.requireEffects(t, effects)
	}
}

func lettersApplied(t *testing.T, d desk) {
	d.requireApply(t, d.events[0], true)
	require.Equal(t, inbox.Applied, d.fail(t, d.events[0]).State)
	d.setAside(t, d.events[0], inbox.Applied)
	d.requireNoLetter(t, d.events[0])
	d.requireApply(t, d.events[1], true)

	// A copy is about to apply the event while another one gives it up.
	decided := make(chan inbox.Letter, 1)
	_, err := d.UnitOfWork().Once(t.Context(), subscriber, d.other, func(ctx context.Context, tx inbox.Tx) error {
		go func() {
			letter, err := d.Fail(context.WithoutCancel(ctx), subscriber, d.other, inbox.Failure{Cause: errPoison, Limit: 1})
			if err != nil {
				t.Error(err)
			}
			decided <- letter
		}()
		require.Never(t, func() bool { return len(decided) > 0 }, soon, soon/4, "it has to wait")
		return d.add(ctx, tx)
	})
	require.NoError(t, err)
	require.Equal(t, inbox.Applied, (<-decided).State)
	d.requireNoLetter(t, d.other)
	d.requireEffects(t, 3)
}
