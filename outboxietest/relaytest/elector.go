package relaytest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// ElectorHarness is a lease that nobody has ever held. Its time to live is at least a minute, so that it expires only by Advance.
type ElectorHarness interface {
	Connection
	Elector(holder string) relay.Elector
	TTL() time.Duration
	Advance(t *testing.T, by time.Duration) // moves the clock of the lease, forwards or backwards
}

// TestElector runs the contract of relay.Elector. Each call of open returns a new lease.
func TestElector(t *testing.T, open func(t *testing.T) ElectorHarness) {
	check := contracttest.Runner(t, open)
	check("one instance holds the lease, and the others learn who", electorHeld)
	check("the deadline ends before the lease", electorDeadline)
	check("renewing keeps the lease", electorRenew)
	check("an expired lease goes to the next instance", electorExpired)
	check("an expired lease that nobody took can be renewed", electorExpiredUntaken)
	check("the lease of a holder that is gone can be taken", electorGone)
	check("resigning frees the lease at once", electorResign)
	check("a clock that went back frees the lease", electorClockBack)
	check("of many instances one gets the lease", electorRace)
	check("an ended context is an error", electorContext)
	check("a lost connection is an outage", electorOutage)
}

func acquire(t *testing.T, h ElectorHarness, holder string) relay.Term {
	t.Helper()
	term, err := h.Elector(holder).Acquire(t.Context(), 0)
	require.NoError(t, err)
	return term
}

func requireHeldBy(t *testing.T, h ElectorHarness, holder string) {
	t.Helper()
	_, err := h.Elector("somebody else").Acquire(t.Context(), 0)
	require.ErrorIs(t, err, relay.ErrLeaseHeld)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.ErrorContains(t, err, holder)
}

// requireHeldUnder requires that the lease is held by holder, and that another instance learns the token.
func requireHeldUnder(t *testing.T, h ElectorHarness, holder string, token int64) {
	t.Helper()
	_, err := h.Elector("somebody else").Acquire(t.Context(), 0)
	var held *relay.LeaseHeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, relay.LeaseHeldError{Holder: holder, Token: token}, *held)
}

func electorHeld(t *testing.T, h ElectorHarness) {
	term := acquire(t, h, "instance-1")
	require.Positive(t, term.Token)
	requireHeldUnder(t, h, "instance-1", term.Token)
	_, err := h.Elector("instance-1").Acquire(t.Context(), 0)
	require.ErrorIs(t, err, relay.ErrLeaseHeld, "also for its holder, who has a term to renew")
}

func electorDeadline(t *testing.T, h ElectorHarness) {
	before := time.Now()
	term := acquire(t, h, "instance-1")
	require.True(t, term.Deadline.After(time.Now()))
	require.True(t, term.Deadline.Before(before.Add(h.TTL())))

	before = time.Now()
	renewed, err := h.Elector("instance-1").Renew(t.Context(), term)
	require.NoError(t, err)
	require.Equal(t, term.Token, renewed.Token)
	require.True(t, renewed.Deadline.After(term.Deadline))
	require.True(t, renewed.Deadline.Before(before.Add(h.TTL())))
}

func electorRenew(t *testing.T, h ElectorHarness) {
	term := acquire(t, h, "instance-1")
	for range 3 {
		h.Advance(t, h.TTL()*3/4)
		requireHeldBy(t, h, "instance-1")
		var err error
		term, err = h.Elector("instance-1").Renew(t.Context(), term)
		require.NoError(t, err)
	}
}

func electorExpired(t *testing.T, h ElectorHarness) {
	first := acquire(t, h, "instance-1")
	h.Advance(t, h.TTL()+time.Second)
	second := acquire(t, h, "instance-2")
	require.Greater(t, second.Token, first.Token)
	requireHeldBy(t, h, "instance-2")
	_, err := h.Elector("instance-1").Renew(t.Context(), first)
	require.ErrorIs(t, err, relay.ErrLeaseLost)
}

func electorExpiredUntaken(t *testing.T, h ElectorHarness) {
	term := acquire(t, h, "instance-1")
	h.Advance(t, 2*h.TTL())
	renewed, err := h.Elector("instance-1").Renew(t.Context(), term)
	require.NoError(t, err)
	require.Equal(t, term.Token, renewed.Token)
	requireHeldBy(t, h, "instance-1")
}

// electorGone checks that the lease is taken only from the holder of the given token.
func electorGone(t *testing.T, h ElectorHarness) {
	first := acquire(t, h, "instance-1")
	for _, wrong := range []int64{0, first.Token - 1, first.Token + 1} {
		_, err := h.Elector("instance-2").Acquire(t.Context(), wrong)
		require.ErrorIs(t, err, relay.ErrLeaseHeld, "token %d", wrong)
	}
	requireHeldUnder(t, h, "instance-1", first.Token)

	second, err := h.Elector("instance-2").Acquire(t.Context(), first.Token)
	require.NoError(t, err)
	require.Greater(t, second.Token, first.Token)
	require.True(t, second.Deadline.After(time.Now()))
	requireHeldUnder(t, h, "instance-2", second.Token)
	_, err = h.Elector("instance-1").Renew(t.Context(), first)
	require.ErrorIs(t, err, relay.ErrLeaseLost)
	_, err = h.Elector("instance-3").Acquire(t.Context(), first.Token)
	require.ErrorIs(t, err, relay.ErrLeaseHeld, "of several instances that see the first leader gone, one leads")

	third, err := h.Elector("instance-2").Acquire(t.Context(), second.Token)
	require.NoError(t, err, "an instance that was started again takes over from itself")
	require.Greater(t, third.Token, second.Token)
}

func electorResign(t *testing.T, h ElectorHarness) {
	first := acquire(t, h, "instance-1")
	require.NoError(t, h.Elector("instance-1").Resign(t.Context(), first))
	second := acquire(t, h, "instance-2")
	require.Greater(t, second.Token, first.Token)

	require.NoError(t, h.Elector("instance-1").Resign(t.Context(), first), "not its lease any more")
	requireHeldBy(t, h, "instance-2")
}

func electorClockBack(t *testing.T, h ElectorHarness) {
	first := acquire(t, h, "instance-1")
	h.Advance(t, -time.Hour)
	second := acquire(t, h, "instance-2")
	require.Greater(t, second.Token, first.Token)
	requireHeldBy(t, h, "instance-2")
}

func electorRace(t *testing.T, h ElectorHarness) {
	const racers, rounds = 16, 5
	last := int64(0)
	for range rounds {
		var race sync.WaitGroup
		terms := make(chan relay.Term, racers)
		failures := make(chan error, racers)
		for range racers {
			race.Go(func() {
				term, err := h.Elector("racer").Acquire(t.Context(), 0)
				if err != nil {
					failures <- err
					return
				}
				terms <- term
			})
		}
		race.Wait()
		close(failures)
		for err := range failures {
			require.ErrorIs(t, err, relay.ErrLeaseHeld)
		}
		require.Len(t, terms, 1)
		term := <-terms
		require.Greater(t, term.Token, last)
		last = term.Token
		h.Advance(t, h.TTL()+time.Second)
	}
}

func electorContext(t *testing.T, h ElectorHarness) {
	ended, end := context.WithCancel(t.Context())
	end()
	elector := h.Elector("instance-1")
	_, err := elector.Acquire(ended, 0)
	require.ErrorIs(t, err, context.Canceled)
	term := acquire(t, h, "instance-1")
	_, err = elector.Renew(ended, term)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, elector.Resign(ended, term), context.Canceled)
	requireHeldBy(t, h, "instance-1")
}

func electorOutage(t *testing.T, h ElectorHarness) {
	elector := h.Elector("instance-1")
	term := acquire(t, h, "instance-1")
	h.Disconnect(t)
	_, err := elector.Renew(t.Context(), term)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	_, err = elector.Acquire(t.Context(), 0)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	err = elector.Resign(t.Context(), term)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	h.Reconnect(t)
	_, err = elector.Renew(t.Context(), term)
	require.NoError(t, err)
}
