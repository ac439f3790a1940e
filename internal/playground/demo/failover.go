package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

// leadership is the instance that leads, and its fencing token. The first token is 1, and each new one is higher.
type leadership struct {
	holder string
	token  int64
}

// leader reads the lease. It returns the zero leadership if nobody leads.
func leader(ctx context.Context, db *sql.DB) (leadership, error) {
	var l leadership
	err := db.QueryRowContext(ctx, `SELECT holder, token FROM leases WHERE name = $1 AND expires_at > clock_timestamp()`, streamName).
		Scan(&l.holder, &l.token)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return l, err
}

// load places orders all the time, through several instances.
type load struct {
	ended   chan struct{}
	placing sync.WaitGroup

	mu     sync.Mutex
	failed error
}

const (
	loadEvery   = 20 * time.Millisecond // of each client
	resendEvery = 10                    // orders
)

// startLoad starts a number of clients that place orders until stop is called or ctx ends.
func startLoad(ctx context.Context, c *client, clients int, instances []string) *load {
	l := &load{ended: make(chan struct{})}
	for number := range clients {
		l.placing.Go(func() {
			if err := l.run(ctx, c, instances, number); err != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.failed = errors.Join(l.failed, err)
			}
		})
	}
	return l
}

// run places one order after the other, each through the next instance. It sends every tenth order again although the order was accepted,
// as if the answer had been lost.
func (l *load) run(ctx context.Context, c *client, instances []string, number int) error {
	orders := newCustomer()
	for n := number; ; n++ {
		select {
		case <-l.ended:
			return nil
		case <-time.After(loadEvery):
		}
		p := orders.next()
		order, err := c.place(ctx, p, from(instances, n)...)
		if err == nil && n%resendEvery == 0 {
			err = c.confirm(ctx, p, order, from(instances, n+1)...)
		}
		if err != nil {
			return err
		}
	}
}

// from returns the instances in turn, beginning with the nth.
func from(instances []string, n int) []string {
	n %= len(instances)
	return slices.Concat(instances[n:], instances[:n])
}

// stop ends the load, and returns when the last order is accepted. It returns an error if an order was not accepted.
func (l *load) stop() error {
	close(l.ended)
	l.placing.Wait()
	return l.failed
}

// failover is the course of one failover: orders flow, the leader is killed, and another instance leads and delivers.
type failover struct {
	load     *load
	killed   leadership
	accepted int64 // orders that were accepted before the kill
	stored   int   // messages in the stream before the kill

	successor leadership // after the kill
	meanwhile int64      // orders that were accepted until delivery went on
	pause     time.Duration
}

// enough is the number of new messages that show that delivery goes on.
const enough = 20

// kill makes clients place orders through instances, and kills the leader meanwhile.
func (s *scenario) kill(ctx context.Context, l leadership, clients int, instances []string) (*failover, error) {
	f := &failover{load: startLoad(ctx, s.client, clients, instances), killed: l}
	err := s.flow(ctx)
	if err == nil {
		f.accepted, f.stored = s.client.accepted.Load(), s.stream.count()
		err = s.fleet.Kill(ctx, l.holder)
	}
	if err != nil {
		return nil, errors.Join(err, f.load.stop())
	}
	return f, nil
}

// flow waits until the stream has grown by enough messages.
func (s *scenario) flow(ctx context.Context) error {
	more := s.stream.count() + enough
	if err := processes.Await(ctx, time.Millisecond, func() (bool, error) { return s.stream.count() >= more, nil }); err != nil {
		return fmt.Errorf("nothing is delivered: %w", err)
	}
	return nil
}

// awaitTakeOver waits until another instance leads and delivers. Then it ends the load.
func (s *scenario) awaitTakeOver(ctx context.Context, f *failover, note Note) error {
	note("%s is dead, nobody has taken over yet", f.killed.holder)
	err := processes.Await(ctx, 5*time.Millisecond, func() (bool, error) {
		var err error
		f.successor, err = leader(ctx, s.db)
		return f.successor.token > f.killed.token, err
	})
	if err != nil {
		err = fmt.Errorf("nobody took over from %s: %w", f.killed.holder, err)
	} else {
		note("%s leads", f.successor.holder)
		err = s.flow(ctx)
	}
	f.meanwhile = s.client.accepted.Load() - f.accepted
	if err = errors.Join(err, f.load.stop()); err != nil {
		return err
	}
	f.pause = s.stream.longest(f.stored)
	return nil
}
