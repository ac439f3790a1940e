package memory

import (
	"context"
	"maps"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// UnitOfWork is a transaction over keys, orders and a Log. Nobody else sees uncommitted changes. A transaction that
// claims a key or saves an order waits for the transaction that did so before. Two transactions that save the same orders in different
// sequence wait for each other until a context ends; a database would notice the deadlock.
type UnitOfWork struct {
	database
	log      *Log
	keys     map[keyName]keptClaim
	claiming *rowLocks[keyName]
	orders   map[order.ID]order.Snapshot
	saving   *rowLocks[order.ID]
}

var _ orders.UnitOfWork = (*UnitOfWork)(nil)

// NewUnitOfWork returns a unit of work without keys and orders which appends to log.
func NewUnitOfWork(log *Log) *UnitOfWork {
	return &UnitOfWork{
		log:      log,
		keys:     make(map[keyName]keptClaim),
		claiming: newRowLocks[keyName](),
		orders:   make(map[order.ID]order.Snapshot),
		saving:   newRowLocks[order.ID](),
	}
}

// Do makes all changes of fn visible at once.
func (u *UnitOfWork) Do(ctx context.Context, fn func(ctx context.Context, tx orders.Tx) error) error {
	open, err := u.begin(ctx)
	if err != nil {
		return err
	}
	writer := u.log.Begin()
	claimed := &keys{transaction: open, from: u, held: make(map[keyName]keptClaim)}
	changed := &orderRepository{transaction: open, from: u, saved: make(map[order.ID]order.Snapshot)}
	defer func() {
		open.over = true
		writer.Rollback()
		for id := range changed.saved {
			u.saving.release(id)
		}
		for key := range claimed.held {
			u.claiming.release(key)
		}
	}()
	tx := orders.Tx{Keys: claimed, Orders: changed, Outbox: &appender{transaction: open, writer: writer}}
	if err := fn(ctx, tx); err != nil {
		return err
	}
	return open.commit(ctx, func() error {
		maps.Copy(u.keys, claimed.held)
		maps.Copy(u.orders, changed.saved)
		return writer.Commit()
	})
}

// Order returns the order as it was committed last, and whether there is one.
func (u *UnitOfWork) Order(id order.ID) (order.Snapshot, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	state, found := u.orders[id]
	return state, found
}

// database is what a database does to all of its transactions.
type database struct {
	mu       sync.Mutex
	failing  bool
	losing   bool
	down     bool
	restarts int
}

// FailNextCommit makes the next commit fail; nothing of it is kept.
func (k *database) FailNextCommit() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failing = true
}

// LoseNextCommit breaks the connection while the next commit is under way: it takes effect, and its caller does not learn that.
func (k *database) LoseNextCommit() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.losing = true
}

// conclude makes the changes of a commit, unless it is to fail.
func (k *database) conclude(apply func() error) error {
	if k.failing {
		k.failing = false
		return errCommit
	}
	if err := apply(); err != nil || !k.losing {
		return err
	}
	k.losing = false
	return errLost
}

// Disconnect breaks every open transaction, and lets none begin until Reconnect.
func (k *database) Disconnect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	k.restarts++
}

// Reconnect lets transactions begin again.
func (k *database) Reconnect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
}

func (k *database) begin(ctx context.Context) (*transaction, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if k.down {
		return nil, errDisconnected
	}
	return &transaction{database: k, restarts: k.restarts}, nil
}

// transaction is what the ports of one transaction have in common. It is not safe for concurrent use.
type transaction struct {
	*database
	restarts int // of the keeper when the transaction began
	over     bool
	aborted  bool // a statement failed in a way after which a database commits nothing
}

// usable says why nothing can be done in the transaction, if so.
func (t *transaction) usable(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.judge(ctx)
}

func (t *transaction) judge(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case t.over:
		return errDead
	case t.restarts != t.database.restarts:
		return errDisconnected
	case t.aborted:
		return errAborted
	}
	return nil
}

// commit runs apply, which makes everything visible at once, unless the commit fails.
func (t *transaction) commit(ctx context.Context, apply func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.judge(ctx); err != nil {
		return err
	}
	return t.conclude(apply)
}

// rowLocks are locks of rows: one transaction holds a key, the others wait.
type rowLocks[K comparable] struct {
	mu   sync.Mutex
	held map[K]chan struct{}
}

func newRowLocks[K comparable]() *rowLocks[K] { return &rowLocks[K]{held: make(map[K]chan struct{})} }

func (c *rowLocks[K]) claim(ctx context.Context, key K) error {
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

func (c *rowLocks[K]) release(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.held[key])
	delete(c.held, key)
}

func (c *rowLocks[K]) taken(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, taken := c.held[key]
	return taken
}
