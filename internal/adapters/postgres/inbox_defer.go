package postgres

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Transaction returns the transaction in which a handler is called. The caller must neither commit it nor roll it back. The adapter's Inbox
// must have made tx.
func Transaction(tx inbox.Tx) (bun.Tx, error) {
	effects, err := effectsOf(tx)
	if err != nil {
		return bun.Tx{}, err
	}
	effects.mu.Lock()
	defer effects.mu.Unlock()
	if effects.ended {
		return bun.Tx{}, errEnded
	}
	effects.direct = true
	return effects.tx, nil
}

// Write is what a transaction does at its end with the items that its handlers deferred.
type Write func(ctx context.Context, tx bun.Tx, items []any) error

// Defer collects an item that write gets together with the other items of the transaction, in the order of the calls. number identifies the
// write: from 0 on, and different for each write of a handler. The writes of all transactions are made in the order of these numbers, so that
// transactions take locks in the same order.
func Defer(tx inbox.Tx, number int, item any, write Write) error {
	effects, err := effectsOf(tx)
	if err != nil {
		return err
	}
	effects.mu.Lock()
	defer effects.mu.Unlock()
	if err := effects.collects(); err != nil {
		return err
	}
	for _, other := range effects.collectors {
		if d, found := other.(*deferred); found && d.number == number {
			d.items = append(d.items, item)
			return nil
		}
	}
	effects.collectors = append(effects.collectors, &deferred{number: number, items: []any{item}, write: write})
	return nil
}

// deferred are the items of one write.
type deferred struct {
	number int
	items  []any
	write  Write
}

func (d *deferred) rank() int { return rankDeferred + d.number }

// flush turns a panic of the write into an error with the write's stack.
func (d *deferred) flush(ctx context.Context, tx bun.Tx, _ string) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the write of a batch panicked: %v\n%s", reason, debug.Stack())
		}
	}()
	return d.write(ctx, tx, d.items)
}
