package e2e_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestHandovers checks that a leader that gets SIGTERM hands over fast under load. On a calm machine the median of twenty is below 100 ms;
// the test allows three times as much, and on a busy machine the time that twenty orders take there. The log has the figures.
func TestHandovers(t *testing.T) {
	f := startFleet(t)
	var terminated []pause
	for range 40 {
		resigned := false
		moved := f.handover(func(leader *infra.Process) {
			require.Zero(t, leader.Stop(syscall.SIGTERM))
			resigned = strings.Contains(leader.String(), "reason=resigned")
		})
		if resigned { // else it had lost the lease just before: the machine is too busy to renew it
			terminated = append(terminated, moved)
		}
		if len(terminated) == 20 {
			break
		}
	}
	require.Len(t, terminated, 20, "the leader resigns when it has to stop")
	order := f.toPost()
	f.finish()
	f.report("SIGTERM", terminated)
	t.Logf("meanwhile an order took %s to post (mean)", order)
	// A handover is some ten calls of Postgres and the broker, one after the other, and several wait for the disk. An order needs similar calls.
	// If orders take long, the machine is busy with something else.
	require.Less(t, sorted(terminated, pause.moved)[len(terminated)/2], max(300*time.Millisecond, 20*order), "median until delivery has moved")
}

// TestStalledLeader checks that a leader that is stopped with SIGSTOP for more than three leases steps down when it continues, and that the
// stream has every event once.
func TestStalledLeader(t *testing.T) {
	f := startFleet(t)
	stalled, token := holder(t, f.db), count(t, f.db, "SELECT token FROM leases")
	at := time.Now()
	f.instances[stalled].Signal(syscall.SIGSTOP)
	moved := f.moved(stalled, at)
	f.report("SIGSTOP", []pause{moved})
	require.Less(t, moved.moved(), f.ttl+time.Second)
	time.Sleep(time.Until(at.Add(7 * f.ttl / 2)))
	f.instances[stalled].Signal(syscall.SIGCONT)
	f.instances[stalled].WaitFor(fmt.Sprintf("lost leadership instance=%s token=%d", stalled, token))
	f.finish()
}

// fleet is three instances that compete to relay the orders that a fourth accepts, with the times at which the stream grew.
type fleet struct {
	t           *testing.T
	ttl         time.Duration
	environment []string
	broker      string
	db          *sql.DB
	instances   map[string]*infra.Process
	finish      func() // ends the posting, and compares the stream with the log

	mu     sync.Mutex
	posted []time.Duration // how long each order took
	stored []time.Time     // when the stream's messages were stored, by the broker's clock, which is also that of this process
}

func startFleet(t *testing.T, settings ...string) *fleet {
	t.Helper()
	database := infra.Database(t)
	f := &fleet{t: t, ttl: 2 * time.Second, broker: infra.Broker(t), instances: make(map[string]*infra.Process)}
	f.environment = []string{"DATABASE_URL=" + database, "NATS_URL=" + f.broker, "OUTBOX_LEASE_TTL=" + f.ttl.String()}
	f.environment = append(f.environment, settings...) // the last one counts
	var err error
	f.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.db.Close() })
	for _, id := range []string{"app1", "app2", "app3"} {
		f.instances[id] = infra.Serve(t, id, f.environment)
	}
	f.instances[holder(t, f.db)].WaitFor("became leader")
	api := infra.Serve(t, "api", append([]string{"OUTBOXIE_ROLES=api"}, f.environment...)).API()
	placeMany(t, api, 1)
	require.Eventually(t, func() bool { return published(t, f.broker) == 1 }, waitTimeout, 5*time.Millisecond)
	f.watch()
	f.post(api)
	f.more(50)
	return f
}

// post places an order every 2.5 ms until finish.
func (f *fleet) post(api string) {
	stop, failed := make(chan struct{}), make(chan error, 1)
	var posting sync.WaitGroup
	for range 4 {
		posting.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				asked := time.Now()
				if _, err := infra.Place(api); err != nil {
					select {
					case failed <- err:
					default:
					}
					return
				}
				f.mu.Lock()
				f.posted = append(f.posted, time.Since(asked))
				f.mu.Unlock()
			}
		})
	}
	stopped := sync.OnceFunc(func() {
		close(stop)
		posting.Wait()
	})
	f.t.Cleanup(stopped)
	f.finish = func() {
		f.t.Helper()
		stopped()
		select {
		case err := <-failed:
			require.NoError(f.t, err)
		default:
		}
		events := count(f.t, f.db, "SELECT count(*) FROM outbox")
		require.Eventually(f.t, func() bool { return published(f.t, f.broker) >= uint64(events) }, waitTimeout, 10*time.Millisecond)
		requireStream(f.t, f.db, f.broker, "ORDERS")
	}
}

// toPost returns the average time that an order took so far.
func (f *fleet) toPost() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all time.Duration
	for _, took := range f.posted {
		all += took
	}
	return (all / time.Duration(len(f.posted))).Round(100 * time.Microsecond)
}

// watch notes when each message is stored.
func (f *fleet) watch() {
	js, done := connect(f.t, f.broker)
	f.t.Cleanup(done)
	consumer, err := js.OrderedConsumer(f.t.Context(), "ORDERS", jetstream.OrderedConsumerConfig{})
	require.NoError(f.t, err)
	_, err = consumer.Consume(func(message jetstream.Msg) {
		meta, err := message.Metadata()
		if err != nil {
			f.t.Error(err)
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stored = append(f.stored, meta.Timestamp)
	})
	require.NoError(f.t, err)
}

// pause is the time without delivery after something happened to the leader. It lasts from the last event before another instance got the lease
// (last) to the first event after that (next).
type pause struct{ happened, last, next time.Time }

// length returns the pause that a subscriber sees: from the last event that was stored to the next one.
func (p pause) length() time.Duration { return p.next.Sub(p.last) }

// moved returns the time from what happened to the leader until another instance delivered. It includes the time in which the leader still
// delivered.
func (p pause) moved() time.Duration { return p.next.Sub(p.happened) }

// handover takes the leader away, waits until another one delivers, and starts the first again.
func (f *fleet) handover(takeAway func(leader *infra.Process)) pause {
	f.t.Helper()
	leader, at := holder(f.t, f.db), time.Now()
	takeAway(f.instances[leader])
	moved := f.moved(leader, at)
	f.instances[leader] = infra.Serve(f.t, leader, f.environment)
	f.more(50) // the new process is not measured while it starts
	return moved
}

// more waits until this number of further events is stored.
func (f *fleet) more(events int) {
	f.t.Helper()
	stored := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.stored)
	}
	enough := stored() + events
	require.Eventually(f.t, func() bool { return stored() >= enough }, waitTimeout, 5*time.Millisecond, "nothing is delivered")
}

// moved waits until another instance than leader delivers.
func (f *fleet) moved(leader string, since time.Time) pause {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return holder(f.t, f.db) != leader }, waitTimeout, time.Millisecond)
	var ago float64 // by the database's clock, which need not be this process's
	require.NoError(f.t, f.db.QueryRow("SELECT extract(epoch FROM clock_timestamp() - acquired_at) FROM leases").Scan(&ago))
	acquired := time.Now().Add(-time.Duration(ago * float64(time.Second)))
	moved := pause{happened: since}
	require.Eventually(f.t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		first := slices.IndexFunc(f.stored, acquired.Before)
		if first > 0 {
			moved.last, moved.next = f.stored[first-1], f.stored[first]
		}
		return first > 0
	}, waitTimeout, time.Millisecond, "nothing is delivered")
	return moved
}

func (f *fleet) report(what string, pauses []pause) {
	f.t.Helper()
	for _, figure := range []struct {
		name string
		of   func(pause) time.Duration
	}{{"until delivery has moved", pause.moved}, {"between the events before and after", pause.length}} {
		all := sorted(pauses, figure.of)
		f.t.Logf("%s of the leader, %d times, %s: min %s, median %s, max %s", what, len(all), figure.name,
			all[0], all[len(all)/2], all[len(all)-1])
	}
}

func sorted(pauses []pause, figure func(pause) time.Duration) []time.Duration {
	all := make([]time.Duration, len(pauses))
	for i, p := range pauses {
		all[i] = figure(p).Round(100 * time.Microsecond)
	}
	slices.Sort(all)
	return all
}
