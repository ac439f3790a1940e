package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/uptrace/bun"
)

// InboxOptions tune an Inbox.
type InboxOptions struct {
	// IdleTimeout is how long a transaction may lie idle before Postgres ends it.
	IdleTimeout time.Duration
}

// Inbox applies effects once, in a Postgres transaction, and keeps dead letters.
type Inbox struct {
	db          *bun.DB
	idleTimeout time.Duration
}

// NewInbox returns an inbox on db.
func NewInbox(db *bun.DB, options InboxOptions) *Inbox {
	return &Inbox{db: db, idleTimeout: options.IdleTimeout}
}

// affected classifies what a statement answered, and returns how many rows it touched.
func affected(ctx context.Context) func(result sql.Result, err error) (int, error) {
	return func(result sql.Result, err error) (int, error) {
		if err != nil {
			return 0, classify(ctx, err)
		}
		rows, err := result.RowsAffected()
		return int(rows), classify(ctx, err)
	}
}
