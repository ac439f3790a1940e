package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// buyers place and pay orders without a pause, and record the answers.
type buyers struct {
	stop chan struct{}
	all  sync.WaitGroup

	mu      sync.Mutex
	orders  map[string]int64 // the last version that was answered with 200 or 201
	refused int              // because of the sequence
	other   []string         // all other errors
}

func buy(api string) *buyers {
	b := &buyers{stop: make(chan struct{}), orders: make(map[string]int64)}
	for range 4 {
		b.all.Go(func() {
			for {
				select {
				case <-b.stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				order, err := infra.Place(api)
				b.note(order, err)
				if err == nil {
					order, err = infra.Transition(api, order.ID, "pay")
					b.note(order, err)
				}
			}
		})
	}
	return b
}

func (b *buyers) note(order infra.Order, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.orders[order.ID] = order.Version
	case strings.Contains(err.Error(), "503") && strings.Contains(err.Error(), "sequence_behind") && strings.Contains(err.Error(), "outbox adopt"):
		b.refused++
	case strings.Contains(err.Error(), "503"): // the machine is too slow; an order without an answer may exist
	default:
		b.other = append(b.other, err.Error())
	}
}

// counts returns how many orders were accepted, and how often one was refused.
func (b *buyers) counts() (accepted, refused int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.orders), b.refused
}

// history appends events by SQL, and waits until the cursor has passed them.
func (d *damagedStream) history(events int) {
	d.T.Helper()
	d.SQL(fmt.Sprintf(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', 'old-' || n, 1, 'test.v1', 'orders.created', '{}' FROM generate_series(1, %d) AS n`, events))
	require.Eventually(d.T, func() bool {
		return count(d.T, d.DB, "SELECT position FROM outbox_cursor") == count(d.T, d.DB, "SELECT max(position) FROM outbox")
	}, waitTimeout, 10*time.Millisecond)
}

// delivered returns the versions of each aggregate in the order in which the stream holds them, and demands that it holds no
// event twice.
func (d *damagedStream) delivered() map[string][]int64 {
	d.T.Helper()
	versions, seen := make(map[string][]int64), make(map[string]bool)
	d.UseStream(func(js jetstream.JetStream, stream jetstream.Stream) {
		consumer, err := js.OrderedConsumer(d.T.Context(), "ORDERS", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"orders.>"}})
		require.NoError(d.T, err)
		info, err := consumer.Info(d.T.Context())
		require.NoError(d.T, err)
		for range info.NumPending {
			message, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
			require.NoError(d.T, err)
			id, aggregate := message.Headers().Get("ce-id"), message.Headers().Get("ce-subject")
			require.False(d.T, seen[id], "event %s of %s is in the stream twice", id, aggregate)
			seen[id] = true
			version, err := strconv.ParseInt(message.Headers().Get("Outbox-Aggregate-Version"), 10, 64)
			require.NoError(d.T, err)
			versions[aggregate] = append(versions[aggregate], version)
		}
	})
	return versions
}

// requireSetBack waits until status reports the halt. Until then, status must report neither that the relay works nor an empty backlog.
func (d *damagedStream) requireSetBack() {
	d.T.Helper()
	require.Eventually(d.T, func() bool {
		said, err := infra.Outboxie(d.T, d.Environment, "outbox", "status")
		require.NoError(d.T, err)
		require.False(d.T, strings.HasPrefix(said, "relaying") || strings.Contains(said, "backlog  none\n"), said)
		return strings.Contains(said, "halted: sequence_behind") && strings.Contains(said, "outboxie outbox adopt")
	}, waitTimeout, 50*time.Millisecond)
}

func (d *damagedStream) adopt() string {
	d.T.Helper()
	said, err := infra.Outboxie(d.T, d.Environment, "outbox", "adopt", "--yes")
	require.NoError(d.T, err, said)
	return said
}

// requireDelivered waits until the relay has caught up, and requires that the stream has the events of each order in order, once and completely.
// The sequence of positions must be above the cursor, the log and the parking lot.
func (d *damagedStream) requireDelivered(b *buyers) {
	t := d.T
	require.Eventually(t, func() bool {
		said, err := infra.Outboxie(t, d.Environment, "outbox", "status")
		return err == nil && strings.HasPrefix(said, "relaying") && strings.Contains(said, "backlog  none\n")
	}, waitTimeout, 100*time.Millisecond)
	versions := d.delivered()
	for id, last := range b.orders {
		require.GreaterOrEqual(t, len(versions[id]), int(last), "order %s", id)
	}
	for aggregate, order := range versions {
		for i, version := range order {
			require.EqualValues(t, i+1, version, "the versions of %s came as %v", aggregate, order)
		}
	}
	require.Equal(t, 1, count(t, d.DB, `SELECT count(*) FROM outbox_position_seq WHERE last_value >= greatest(
		(SELECT max(position) FROM outbox), (SELECT max(position) FROM outbox_cursor), (SELECT max(position) FROM outbox_parked))`))
}

// TestSequenceGoesBackUnderLoad checks that while customers buy, a sequence that goes back under a running leader loses nothing: orders are
// refused with the reason, or delivered after the repair.
func TestSequenceGoesBackUnderLoad(t *testing.T) {
	for name, test := range map[string]struct {
		cause   []string
		refuses bool // every order is refused, because the rows are kept
	}{
		"restarted, and the rows were purged": {[]string{
			"UPDATE outbox_cursor SET purged_to = position",
			"DELETE FROM outbox WHERE position <= (SELECT purged_to FROM outbox_cursor)",
			"ALTER TABLE outbox ALTER COLUMN position RESTART",
		}, false},
		"restarted, and the rows are kept":        {[]string{"ALTER TABLE outbox ALTER COLUMN position RESTART"}, true},
		"not restored, as by a data-only restore": {[]string{"SELECT setval('outbox_position_seq', 1, false)"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDamagedStream(t)
			d.history(3000)
			b := buy(d.Instance.API())
			require.Eventually(t, func() bool { accepted, _ := b.counts(); return accepted >= 20 }, waitTimeout, time.Millisecond)
			for _, statement := range test.cause {
				d.SQL(statement)
			}
			require.Eventually(t, func() bool { return strings.Contains(d.Instance.String(), "sequence_behind") }, waitTimeout, time.Millisecond)
			d.requireSetBack()
			_, refused := b.counts()
			require.Equal(t, test.refuses, refused > 0)
			d.adopt()
			before, _ := b.counts()
			require.Eventually(t, func() bool { accepted, _ := b.counts(); return accepted >= before+20 }, waitTimeout, time.Millisecond)
			close(b.stop)
			b.all.Wait()
			require.Empty(t, b.other)
			d.requireDelivered(b)
			t.Logf("%d orders accepted, %d refused", len(b.orders), b.refused)
		})
	}
}

// TestSequenceOvertakesWhileNobodyLooks checks that a relay notices a sequence that went back, although it is above the cursor again when
// the relay starts. Events came in place of purged ones, or in gaps that rollbacks had left.
func TestSequenceOvertakesWhileNobodyLooks(t *testing.T) {
	for name, purged := range map[string]bool{"with retention": true, "without retention": false} {
		t.Run(name, func(t *testing.T) {
			d := newDamagedStream(t)
			d.SQL("SELECT nextval('outbox_position_seq') FROM generate_series(1, 50)") // as rollbacks do
			d.history(3)
			first, last := 6, count(t, d.DB, "SELECT max(position) FROM outbox")
			d.Instance.Signal(syscall.SIGKILL)
			if purged {
				d.SQL("UPDATE outbox_cursor SET purged_to = position")
				d.SQL("DELETE FROM outbox")
				first = 1
			}
			come := func(version, position int) {
				d.SQL(fmt.Sprintf("SELECT setval('outbox_position_seq', %d, false)", position))
				d.SQL(fmt.Sprintf(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
					SELECT gen_random_uuid(), 'order', 'new-' || n, %d, 'test.v1', 'orders.created', '{}' FROM generate_series(1, 20) AS n`, version))
			}
			come(1, first)
			come(2, last+1)
			said, err := infra.Outboxie(t, d.Environment, "outbox", "status")
			require.NoError(t, err)
			require.Regexp(t, `^(set back|nobody leads|halted)`, said)
			require.Contains(t, said, "20 events misplaced")
			d.Instance = infra.Serve(t, "again", d.Environment)
			d.requireSetBack()
			listed, err := infra.Outboxie(t, d.Environment, "outbox", "list", "--limit", "100")
			require.NoError(t, err)
			require.Equal(t, 20, strings.Count(listed, "misplaced"))
			require.Contains(t, d.adopt(), "move 20 events")
			placeMany(t, d.Instance.API(), 1)
			d.requireDelivered(&buyers{})
			require.Len(t, d.delivered()["new-7"], 2)
		})
	}
}
