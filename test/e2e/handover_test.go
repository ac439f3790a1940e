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

// TestHandovers takes the leader away again and again, among three instances, while orders are posted to a fourth that
// does not relay. Told to stop (SIGTERM), it hands over within 100 ms on a calm machine (the median of twenty). The test allows
// three times as much, and on a machine that is busy what twenty orders take there. The figures are in the test's log.
func TestHandovers(t *testing.T) {
	c := startCrew(t)
	var told []pause
	for range 40 {
		resigned := false
		moved := c.handover(func(leader *infra.Process) {
			require.Zero(t, leader.Stop(syscall.SIGTERM))
			resigned = strings.Contains(leader.String(), "reason=resigned")
		})
		if resigned { // else it had lost the lease just before: the machine is too busy to renew it
			told = append(told, moved)
		}
		if len(told) == 20 {
			break
		}
	}
	require.Len(t, told, 20, "the leader resigns when it is told to stop")
	order := c.toPost()
	c.finish()
	c.report("SIGTERM", told)
	t.Logf("meanwhile an order took %s to post (mean)", order)
	// A handover is some ten calls of Postgres and the broker, one after the other, and several wait for the disk. Where
	// orders, which do the same, take long, the machine is busy with something else.
	require.Less(t, sorted(told, pause.moved)[len(told)/2], max(300*time.Millisecond, 20*order), "median until delivery has moved")
}

// TestStalledLeader stops the leader (SIGSTOP) for more than three times its lease, lets another one lead, and lets the
// first go on: it steps down, and the stream has every event once.
func TestStalledLeader(t *testing.T) {
	c := startCrew(t)
	stalled, token := holder(t, c.db), count(t, c.db, "SELECT token FROM leases")
	at := time.Now()
	c.instances[stalled].Signal(syscall.SIGSTOP)
	moved := c.moved(stalled, at)
	c.report("SIGSTOP", []pause{moved})
	require.Less(t, moved.moved(), c.ttl+time.Second)
	time.Sleep(time.Until(at.Add(7 * c.ttl / 2)))
	c.instances[stalled].Signal(syscall.SIGCONT)
	c.instances[stalled].Says(fmt.Sprintf("lost leadership instance=%s token=%d", stalled, token))
	c.finish()
}

// crew is three instances that compete to relay what a fourth accepts, all the time, and the stream as it grows.
type crew struct {
	t           *testing.T
	ttl         time.Duration
	environment []string
	broker      string
	db          *sql.DB
	instances   map[string]*infra.Process
	finish      func() // ends the posting, and compares the stream with the log

	mu     sync.Mutex
	posted []time.Duration // how long each order took
	stored []time.Time     // when the stream's messages were stored, by the broker's clock, which is this process's
}

func startCrew(t *testing.T, settings ...string) *crew {
	t.Helper()
	database := infra.Database(t)
	c := &crew{t: t, ttl: 2 * time.Second, broker: infra.Broker(t), instances: make(map[string]*infra.Process)}
	c.environment = []string{"DATABASE_URL=" + database, "NATS_URL=" + c.broker, "OUTBOX_LEASE_TTL=" + c.ttl.String()}
	c.environment = append(c.environment, settings...) // the last one counts
	var err error
	c.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.db.Close() })
	for _, id := range []string{"app1", "app2", "app3"} {
		c.instances[id] = infra.Serve(t, id, c.environment)
	}
	c.instances[holder(t, c.db)].Says("became leader")
	api := infra.Serve(t, "api", append([]string{"OUTBOXIE_ROLES=api"}, c.environment...)).API()
	placeMany(t, api, 1)
	require.Eventually(t, func() bool { return published(t, c.broker) == 1 }, patience, 5*time.Millisecond)
	c.watch()
	c.post(api)
	c.more(50)
	return c
}

// post places an order every 2.5 ms until finish.
func (c *crew) post(api string) {
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
				c.mu.Lock()
				c.posted = append(c.posted, time.Since(asked))
				c.mu.Unlock()
			}
		})
	}
	stopped := sync.OnceFunc(func() {
		close(stop)
		posting.Wait()
	})
	c.t.Cleanup(stopped)
	c.finish = func() {
		c.t.Helper()
		stopped()
		select {
		case err := <-failed:
			require.NoError(c.t, err)
		default:
		}
		events := count(c.t, c.db, "SELECT count(*) FROM outbox")
		require.Eventually(c.t, func() bool { return published(c.t, c.broker) >= uint64(events) }, patience, 10*time.Millisecond)
		requireStream(c.t, c.db, c.broker, "ORDERS")
	}
}

// toPost is how long an order took so far, on average.
func (c *crew) toPost() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all time.Duration
	for _, took := range c.posted {
		all += took
	}
	return (all / time.Duration(len(c.posted))).Round(100 * time.Microsecond)
}

// watch notes when each message is stored.
func (c *crew) watch() {
	js, done := connect(c.t, c.broker)
	c.t.Cleanup(done)
	consumer, err := js.OrderedConsumer(c.t.Context(), "ORDERS", jetstream.OrderedConsumerConfig{})
	require.NoError(c.t, err)
	_, err = consumer.Consume(func(message jetstream.Msg) {
		meta, err := message.Metadata()
		if err != nil {
			c.t.Error(err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stored = append(c.stored, meta.Timestamp)
	})
	require.NoError(c.t, err)
}

// pause is the time without delivery after something happened to the leader: from the last event before another instance
// led to the first one after that.
type pause struct{ happened, last, next time.Time }

// length is what a subscriber sees of it: from the last event that was stored to the next one.
func (p pause) length() time.Duration { return p.next.Sub(p.last) }

// moved is until when delivery was another instance's, counted from what happened, so that the time in which the leader
// went on is part of it.
func (p pause) moved() time.Duration { return p.next.Sub(p.happened) }

// handover takes the leader away, waits until another one delivers, and starts the first again.
func (c *crew) handover(takeAway func(leader *infra.Process)) pause {
	c.t.Helper()
	leader, at := holder(c.t, c.db), time.Now()
	takeAway(c.instances[leader])
	moved := c.moved(leader, at)
	c.instances[leader] = infra.Serve(c.t, leader, c.environment)
	c.more(50) // the new process is not measured while it starts
	return moved
}

// more waits until so many more events are stored.
func (c *crew) more(events int) {
	c.t.Helper()
	stored := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.stored)
	}
	enough := stored() + events
	require.Eventually(c.t, func() bool { return stored() >= enough }, patience, 5*time.Millisecond, "nothing is delivered")
}

// moved waits until another instance than leader delivers.
func (c *crew) moved(leader string, since time.Time) pause {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return holder(c.t, c.db) != leader }, patience, time.Millisecond)
	var ago float64 // by the database's clock, which need not be this process's
	require.NoError(c.t, c.db.QueryRow("SELECT extract(epoch FROM clock_timestamp() - acquired_at) FROM leases").Scan(&ago))
	acquired := time.Now().Add(-time.Duration(ago * float64(time.Second)))
	moved := pause{happened: since}
	require.Eventually(c.t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		first := slices.IndexFunc(c.stored, acquired.Before)
		if first > 0 {
			moved.last, moved.next = c.stored[first-1], c.stored[first]
		}
		return first > 0
	}, patience, time.Millisecond, "nothing is delivered")
	return moved
}

func (c *crew) report(what string, pauses []pause) {
	c.t.Helper()
	for _, figure := range []struct {
		name string
		of   func(pause) time.Duration
	}{{"until delivery has moved", pause.moved}, {"between the events before and after", pause.length}} {
		all := sorted(pauses, figure.of)
		c.t.Logf("%s of the leader, %d times, %s: min %s, median %s, max %s", what, len(all), figure.name,
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
