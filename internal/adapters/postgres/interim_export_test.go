package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func InterimLetter(ctx context.Context, db *bun.DB, subscriber, id string) (inbox.Letter, error) {
	var row letterRow
	err := db.NewSelect().Model(&row).ColumnExpr(letterColumns).
		ColumnExpr("(SELECT count(*) FROM dead_letters AS b WHERE b.subscriber = letter.subscriber AND b.aggregate_type = letter.aggregate_type AND b.aggregate_id = letter.aggregate_id AND b.position > letter.position) AS behind").
		Where("subscriber = ? AND event_id = ?", subscriber, letterID(id)).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return inbox.Letter{}, inbox.ErrNoLetter
	}
	return row.letter(), err
}
