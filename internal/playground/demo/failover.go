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

// leadership is who leads, and the token of it: the first is 1, each new one is higher.
type leadership struct {
	holder string
	token  int64
}

// leader reads the lease; the zero leadership is nobody's.
func leader(ctx context.Context, db *sql.DB) (leadership, error) {
	var l leadership
	err := db.QueryRowContext(ctx, `SELECT holder, token FROM leases WHERE name = $1 AND expires_at > clock_timestamp()`, streamName).
		Scan(&l.holder, &l.token)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return l, err
}

// load is orders that are placed all the time, through several instances.
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

// startLoad has so many clients place orders until the load is stopped, or ctx ends.
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

// run places one order after the other, each through the next instance. Every tenth is sent again although it was accepted,
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

// from is the instances in turn, beginning with the nth.
func from(instances []string, n int) []string {
	n %= len(instances)
	return slices.Concat(instances[n:], instances[:n])
}

// stop returns when the last order is accepted, and fails if one was not.
func (l *load) stop() error {
	close(l.ended)
	l.placing.Wait()
	return l.failed
}

// failover is one: orders flow, the leader is killed, another instance leads and delivers.
type failover struct {
	load     *load
	killed   leadership
	accepted int64 // orders, when it was killed
	stored   int   // messages, when it was killed

	leads     leadership // afterwards
	meanwhile int64      // orders that were accepted until delivery went on
	pause     time.Duration
}

// enough is how many messages show that delivery goes on.
const enough = 20

// kill has clients place orders through instances, and kills the leader in the midst of them.
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

// flow waits until so many more messages are in the stream.
func (s *scenario) flow(ctx context.Context) error {
	more := s.stream.count() + enough
	if err := processes.Await(ctx, time.Millisecond, func() (bool, error) { return s.stream.count() >= more, nil }); err != nil {
		return fmt.Errorf("nothing is delivered: %w", err)
	}
	return nil
}

// follow waits until another instance leads and delivers, and ends the load.
func (s *scenario) follow(ctx context.Context, f *failover, note Note) error {
	note("%s is dead, nobody has taken over yet", f.killed.holder)
	err := processes.Await(ctx, 5*time.Millisecond, func() (bool, error) {
		var err error
		f.leads, err = leader(ctx, s.db)
		return f.leads.token > f.killed.token, err
	})
	if err != nil {
		err = fmt.Errorf("nobody took over from %s: %w", f.killed.holder, err)
	} else {
		note("%s leads", f.leads.holder)
		err = s.flow(ctx)
	}
	f.meanwhile = s.client.accepted.Load() - f.accepted
	if err = errors.Join(err, f.load.stop()); err != nil {
		return err
	}
	f.pause = s.stream.longest(f.stored)
	return nil
}
