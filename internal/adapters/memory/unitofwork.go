package memory

import (
	"context"
	"maps"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

var (
	errDisconnected = fault.New(fault.Unavailable, "memory_disconnected", "the connection was lost")
	errCommit       = fault.New(fault.Internal, "memory_commit_failed", "the commit failed")
)

// UnitOfWork is a transaction over orders and a Log. Uncommitted changes are seen by nobody else, and whoever saves an
// order waits for the transaction that saved it before.
type UnitOfWork struct {
	keeper
	log    *Log
	orders map[order.ID]order.Snapshot
	saving *claims[order.ID]
}

var _ ordering.UnitOfWork = (*UnitOfWork)(nil)

// NewUnitOfWork returns a unit of work without orders which appends to log.
func NewUnitOfWork(log *Log) *UnitOfWork {
	return &UnitOfWork{log: log, orders: make(map[order.ID]order.Snapshot), saving: newClaims[order.ID]()}
}

// Do implements the port.
func (u *UnitOfWork) Do(ctx context.Context, fn func(ctx context.Context, tx ordering.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	open := &transaction{keeper: &u.keeper, connection: u.connect()}
	writer := u.log.Begin()
	changed := &orders{transaction: open, from: u, saved: make(map[order.ID]order.Snapshot)}
	defer func() {
		open.over = true
		writer.Rollback()
		for id := range changed.saved {
			u.saving.release(id)
		}
	}()
	if err := fn(ctx, ordering.Tx{Orders: changed, Outbox: &appender{transaction: open, writer: writer}}); err != nil {
		return err
	}
	return open.commit(ctx, func() error {
		maps.Copy(u.orders, changed.saved)
		return writer.Commit()
	})
}

// keeper is what a database does to all of its transactions.
type keeper struct {
	mu         sync.Mutex
	connection int
	failing    bool
}

// FailNextCommit makes the next commit fail; nothing of it is kept.
func (k *keeper) FailNextCommit() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failing = true
}

// Disconnect breaks every open transaction.
func (k *keeper) Disconnect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.connection++
}

func (k *keeper) connect() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.connection
}

// transaction is what the ports of one transaction have in common.
type transaction struct {
	*keeper
	connection int
	over       bool
}

// usable says why nothing can be done in the transaction, if so.
func (t *transaction) usable(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case t.over:
		return errDead
	case t.connect() != t.connection:
		return errDisconnected
	}
	return nil
}

// commit runs apply, which makes everything visible at once, unless the commit fails.
func (t *transaction) commit(ctx context.Context, apply func() error) error {
	if err := t.usable(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failing {
		t.failing = false
		return errCommit
	}
	return apply()
}

// claims is row locks: each key is held by one transaction, the others wait.
type claims[K comparable] struct {
	mu   sync.Mutex
	held map[K]chan struct{}
}

func newClaims[K comparable]() *claims[K] { return &claims[K]{held: make(map[K]chan struct{})} }

func (c *claims[K]) claim(ctx context.Context, key K) error {
	for {
		c.mu.Lock()
		released, taken := c.held[key]
		if !taken {
			c.held[key] = make(chan struct{})
		}
		c.mu.Unlock()
		if !taken {
			return nil
		}
		select {
		case <-released:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *claims[K]) release(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.held[key])
	delete(c.held, key)
}
