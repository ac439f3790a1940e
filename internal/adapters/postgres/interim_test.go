package postgres_test

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type letters struct {
	inbox.DeadLetterAdmin
	h *harness
}

func (l letters) Letter(ctx context.Context, subscriber, id string) (inbox.Letter, error) {
	return postgres.InterimLetter(ctx, l.h.others, subscriber, id)
}

func (l letters) CountDead(ctx context.Context, subscriber string) (n int, err error) {
	err = l.h.others.QueryRowContext(ctx, "SELECT count(*) FROM dead_letters WHERE subscriber = ? AND state = 'dead'", subscriber).Scan(&n)
	return n, err
}

func (l letters) Discard(ctx context.Context, subscriber, id string) error {
	_, err := l.h.others.ExecContext(ctx, "UPDATE dead_letters SET state = 'discarded' WHERE subscriber = ? AND event_id = ?", subscriber, id)
	return err
}
