package memory

import (
	"context"
	"maps"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// UnitOfWork runs transactions over keys, orders and a Log. Other transactions do not see uncommitted changes. A transaction that claims a
// key or saves an order waits for an open transaction that claimed the same key or saved the same order before. Two transactions that save
// the same orders in different order wait for each other until a context ends. A database would notice this deadlock.
type UnitOfWork struct {
	database
	log      *Log
	keys     map[keyName]keptClaim
	claiming *rowLocks[keyName]
	orders   map[order.ID]order.Snapshot
	saving   *rowLocks[order.ID]

	customerKeys map[value.CustomerID]outbox.SealKey
	customers    *sharedLocks[value.CustomerID]
	foundKeys    map[string]orders.FoundKey // by id, erased ones included
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

		customerKeys: make(map[value.CustomerID]outbox.SealKey),
		customers:    newSharedLocks[value.CustomerID](),
		foundKeys:    make(map[string]orders.FoundKey),
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
	holding := &customerKeys{transaction: open, from: u, held: make(map[value.CustomerID]outbox.SealKey)}
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
		holding.release()
	}()
	tx := orders.Tx{Keys: claimed, CustomerKeys: holding, Orders: changed, Outbox: &appender{transaction: open, writer: writer}}
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

// database holds the failures that hit all transactions of a database.
type database struct {
	mu       sync.Mutex
	failing  bool
	losing   bool
	down     bool
	restarts int
}

// FailNextCommit makes the next commit fail without any effect.
func (k *database) FailNextCommit() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failing = true
}

// LoseNextCommit breaks the connection during the next commit. The commit takes effect, but its caller does not learn this.
func (k *database) LoseNextCommit() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.losing = true
}

// conclude makes the changes of a commit, unless the commit should fail.
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

// transaction is the state that the ports of one transaction share. It is not safe for concurrent use.
type transaction struct {
	*database
	restarts int // restarts of the database when the transaction began
	over     bool
	aborted  bool // a statement failed, and a database commits nothing after such a failure
}

// usable returns nil if the transaction can run a statement, and otherwise the reason.
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
		return errTransactionOver
	case t.restarts != t.database.restarts:
		return errDisconnected
	case t.aborted:
		return errAborted
	}
	return nil
}

// commit runs apply, unless the commit fails. apply makes all changes visible at once.
func (t *transaction) commit(ctx context.Context, apply func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.judge(ctx); err != nil {
		return err
	}
	return t.conclude(apply)
}

// rowLocks are the locks of rows. One transaction holds the lock of a key, and the others wait.
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
