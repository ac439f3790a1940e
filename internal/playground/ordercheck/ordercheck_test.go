package ordercheck_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

const subscriber = "emails"

func id(n int) checker.ID { return checker.ID{15: byte(n)} }

func customer(n int) checker.ID { return checker.ID{7: byte(n)} }

func placement(n int) ordercheck.Placement {
	return ordercheck.Placement{Customer: customer(n), Minor: int64(100 + n)}
}

// run is a small run of two orders, each of another customer. Order 1 was also paid.
type run struct {
	log     []checker.Event
	applied []int // positions
	totals  []ordercheck.Total
	failed  error // to read the totals
	ledger  *ordercheck.Ledger
}

func created(position int, order checker.ID, n int) checker.Event {
	return checker.Event{
		Position: int64(position), ID: id(100 + position), Aggregate: "order/" + order.String(), Version: 1, Type: "outboxie.order.created.v1",
		Payload: fmt.Appendf(nil, `{"customer_id": %q, "amount": "1.%02d", "currency": "USD"}`, customer(n), n),
	}
}

func total(n int) ordercheck.Total {
	return ordercheck.Total{Subscriber: subscriber, Customer: customer(n).String(), Currency: "USD", Minor: int64(100 + n), Orders: 1}
}

func soundRun() *run {
	r := &run{
		log: []checker.Event{
			created(1, id(1), 1),
			created(2, id(2), 2),
			{Position: 3, ID: id(103), Aggregate: "order/" + id(1).String(), Version: 2, Type: "outboxie.order.paid.v1", Payload: []byte("{}")},
		},
		applied: []int{1, 2, 3}, totals: []ordercheck.Total{total(1), total(2)}, ledger: ordercheck.NewLedger(),
	}
	for n := 1; n <= 2; n++ {
		r.ledger.OrderRequested(placement(n))
		r.ledger.OrderAnswered(placement(n), id(n))
		r.ledger.OrderAcknowledged(id(n), 1)
	}
	return r
}

func all[T any](list []T, err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, one := range list {
			if !yield(one, nil) {
				return
			}
		}
		if err != nil {
			yield(*new(T), err)
		}
	}
}

// verify has the checker check the run. Its stream has each event of the log.
func (r *run) verify() (checker.Verdict, error) {
	var (
		stream  []checker.Message
		effects []checker.Effect
	)
	for at, e := range r.log {
		stream = append(stream, checker.Message{
			Sequence: uint64(at + 1), ID: e.ID, Aggregate: e.Aggregate, Version: e.Version, Type: e.Type, Position: e.Position, Payload: e.Payload,
		})
		for _, who := range []string{subscriber, "calls"} {
			if slices.Contains(r.applied, int(e.Position)) {
				effects = append(effects, checker.Effect{Subscriber: who, ID: e.ID, Position: e.Position, Aggregate: e.Aggregate, Version: e.Version})
			}
		}
	}
	return checker.Verify(checker.History{
		Parked: all[checker.Parked](nil, nil), Log: all(r.log, nil), Stream: all(stream, nil), Effects: all(effects, nil),
		Subscribers: []string{subscriber, "calls"}, Ledger: r.ledger.Ledger,
		Service: ordercheck.New(r.ledger, all(r.totals, r.failed), subscriber),
	})
}

// TestASoundRunPasses checks that a run without a violation passes every check, and that the order service's checks looked at something. A
// subscriber that makes calls counts no totals.
func TestASoundRunPasses(t *testing.T) {
	verdict, err := soundRun().verify()
	require.NoError(t, err)
	require.Empty(t, verdict.Failed(), "%s", verdict)
	require.Equal(t, 2, verdict.Result(ordercheck.Keys).Of)
	require.Equal(t, 2, verdict.Result(ordercheck.Totals).Of)
}

// TestEachViolationIsNoticed checks that each broken promise fails exactly the listed checks.
func TestEachViolationIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*run)
		fails []checker.Check
	}{
		{"the effect came twice, the inbox hides it", func(r *run) { r.totals[0].Orders, r.totals[0].Minor = 2, 202 }, []checker.Check{ordercheck.Totals}},
		{"an effect got lost, the inbox hides it", func(r *run) { r.totals = r.totals[:1] }, []checker.Check{ordercheck.Totals}},
		{"another amount was counted", func(r *run) { r.totals[0].Minor++ }, []checker.Check{ordercheck.Totals}},
		{"an order was counted and not applied", func(r *run) { r.applied = []int{1, 3} }, []checker.Check{checker.Effects, ordercheck.Totals}},
		{"a customer who never ordered", func(r *run) { r.totals = append(r.totals, total(77)) }, []checker.Check{ordercheck.Totals}},
		{"one key, two orders", func(r *run) {
			r.log[1] = created(2, id(2), 1)
			r.totals = []ordercheck.Total{{Subscriber: subscriber, Customer: customer(1).String(), Currency: "USD", Minor: 202, Orders: 2}}
		}, []checker.Check{ordercheck.Keys}},
		{"another order was answered than was made", func(r *run) { r.ledger.OrderAnswered(placement(1), id(2)) }, []checker.Check{ordercheck.Keys}},
		{"an acknowledged order is lost", func(r *run) { r.ledger.OrderAcknowledged(id(9), 1) }, []checker.Check{checker.Loss}},
		{"an event creates no order", func(r *run) {
			r.log[1].Payload, r.totals = []byte(`{"customer_id": "c", "amount": "1"}`), r.totals[:1]
		}, []checker.Check{checker.Ghosts}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := soundRun()
			c.spoil(r)
			verdict, err := r.verify()
			require.NoError(t, err)
			require.ElementsMatch(t, c.fails, verdict.Failed(), "%s", verdict)
		})
	}
}

// TestTotalsThatCannotBeReadAreNoVerdict checks that there is no verdict if the totals cannot be read.
func TestTotalsThatCannotBeReadAreNoVerdict(t *testing.T) {
	r := soundRun()
	r.failed = errors.New("broken")
	_, err := r.verify()
	require.ErrorIs(t, err, r.failed)
}
