package e2e_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// load lets several clients place and pay orders, each order for a new customer, until stop is called.
func (s *subscription) load() (stop func()) {
	return infra.KeepOrdering(s.t, 3, func(int) (api, customer string) { return s.api, uuid.NewString() })
}

// longest returns the longest time that an event waited for its effect, of the events recorded after a moment, by the database's clock.
func (s *subscription) longest(after time.Time) time.Duration {
	s.t.Helper()
	var seconds float64
	require.NoError(s.t, s.db.QueryRow(`SELECT coalesce(max(extract(epoch FROM i.applied_at - o.recorded_at)), 0)
		FROM inbox AS i JOIN outbox AS o ON o.event_id = i.event_id WHERE o.recorded_at > $1`, after).Scan(&seconds))
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}

func (s *subscription) now() (now time.Time) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow("SELECT clock_timestamp()").Scan(&now))
	return now
}

// consumed returns how many events a copy has dealt with.
func consumed(t *testing.T, p *infra.Process) float64 {
	t.Helper()
	return infra.Scrape(t, p.Admin()).Value(t, "messaging_client_consumed_messages_total", emails)
}

// TestCopies checks that three copies share a subscriber under load. The lanes of a killed copy continue within a second. The lanes of a copy
// that is frozen within a transaction continue after the idle timeout and a second. A late copy gets its share. Each event takes effect once, in
// the order of its aggregate.
func TestCopies(t *testing.T) {
	s := newSubscription(t, "LOG_LEVEL=info", "SUBSCRIBER_LANES=16", "SUBSCRIBER_IDLE_TIMEOUT=1s", "SUBSCRIBER_BATCH_TIME=50ms")
	copies := make(map[string]*infra.Process)
	for _, name := range []string{"one", "two", "three"} {
		copies[name] = s.startCopy(name)
	}
	s.order(refusedCustomer)
	s.requireEffects()
	began := s.now()
	stop := s.load()
	defer stop()
	time.Sleep(time.Second)
	calm := s.longest(began) // how long events wait on this machine at the moment

	killed := s.now()
	copies["one"].Kill()
	delete(copies, "one")
	time.Sleep(1500 * time.Millisecond)
	s.order(refusedCustomer)
	s.eventually("SELECT orders FROM customer_totals WHERE customer_id = '"+refusedCustomer+"'", 2)
	pause := s.longest(killed)
	t.Logf("before, no event waited longer than %s; after kill -9 of one of three copies, than %s", calm, pause)
	require.Less(t, pause, 3*(time.Second+calm))

	frozen, after := s.freeze(copies)
	t.Logf("with %s frozen in its transaction its event took effect after %s", frozen, after)
	require.Less(t, after, 3*(2*time.Second+calm), "three times the idle timeout and a second")
	stalled := copies[frozen]
	delete(copies, frozen)

	copies["late"], copies["later"] = s.startCopy("late"), s.startCopy("later")
	for _, name := range []string{"late", "later"} {
		copies[name].WaitFor("subscribed")
	}
	time.Sleep(3 * time.Second) // copies that are gone count for this long
	s.requireShares(copies)
	stalled.Signal(syscall.SIGCONT)
	time.Sleep(300 * time.Millisecond)
	stop()
	s.requireEffects()
}

// freeze freezes the copy that handles the next order of refusedCustomer, within its transaction. It returns the copy's name, and the longest
// time that an event has waited since.
func (s *subscription) freeze(copies map[string]*infra.Process) (name string, after time.Duration) {
	s.t.Helper()
	release, who := s.holdUp(refusedCustomer)
	began := s.now()
	held := s.order(refusedCustomer)
	name = who()
	copies[name].Signal(syscall.SIGSTOP)
	release()
	s.pay(held)
	s.eventually(fmt.Sprintf("SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL AND aggregate_id = '%s'", held.ID), 2)
	return name, s.longest(began)
}

// requireShares requires that each copy deals with a fair share of the events.
func (s *subscription) requireShares(copies map[string]*infra.Process) {
	s.t.Helper()
	before, all := make(map[string]float64), 0.0
	for name, p := range copies {
		before[name] = consumed(s.t, p)
	}
	time.Sleep(2 * time.Second)
	shares := make(map[string]float64)
	for name, p := range copies {
		shares[name] = consumed(s.t, p) - before[name]
		all += shares[name]
	}
	s.t.Logf("of %v events the copies dealt with %v", all, shares)
	for name, share := range shares {
		require.Greater(s.t, share, all*0.15, "%s of %d copies", name, len(copies))
	}
}
