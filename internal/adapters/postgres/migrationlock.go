package postgres

import (
	"log/slog"
	"strings"
	"time"
)

// heldLock is how goose says that another process has the migration lock. It has no error value for that.
const heldLock = "already held by another instance"

// toldEvery is how often a wait for the migration lock is logged.
const toldEvery = 10 * time.Second

// awaitLock returns what decides whether to ask for the migration lock again: only while another process holds it. Every other
// error ends the migration, also one that Postgres has not reported, such as an answer that cannot be read. Waiting is logged.
func awaitLock(logger *slog.Logger) func(error) bool {
	var since, told time.Time
	return func(err error) bool {
		if !strings.Contains(err.Error(), heldLock) {
			return false
		}
		now := time.Now()
		if since.IsZero() {
			since = now
		}
		if now.Sub(told) >= toldEvery {
			told = now
			logger.Warn("another process holds the migration lock, waiting for it", "for", now.Sub(since).Round(time.Second),
				"table", "goose_lock", "free_if_it_died", migrationLease)
		}
		return true
	}
}
