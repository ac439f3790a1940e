package chaos_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// recover waits until everybody has caught up: every command is answered, the log is at rest, the stream and every
// subscriber are at its end, and nothing is left to be redriven.
func (w *world) recover(t *testing.T, c *crowd) checker.Recovery {
	t.Helper()
	began := time.Now()
	w.measureLags(t)
	recovery := checker.Recovery{Bound: catchUpBound}
	if !c.stop(catchUpBound) {
		recovery.Behind = append(recovery.Behind, "writers have no answer yet")
	}
	for i := range w.lags {
		w.lags[i].began = time.Now()
	}
	js, err := jetstream.New(w.nc)
	require.NoError(t, err)
	rested := &rest{}
	for {
		for _, m := range slices.Concat(w.serving, w.subscribing) {
			require.NoError(t, m.revive())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		behind := w.behind(ctx, js, rested)
		cancel()
		if len(behind) == 0 {
			recovery.Took = rested.since.Sub(began)
			return recovery
		}
		if time.Since(began) > catchUpBound {
			recovery.Took, recovery.Behind = time.Since(began), append(recovery.Behind, behind...)
			w.examine()
			return recovery
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// examine writes down what Postgres is at, for whoever has to find out what hangs.
func (w *world) examine() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var text string
	err := w.db.QueryRowContext(ctx, `SELECT string_agg(format('%s %s since %s, %s %s, blocked by %s: %s', pid, application_name,
			state_change, wait_event_type, wait_event, pg_blocking_pids(pid), left(query, 200)), E'\n')
		FROM pg_stat_activity WHERE datname = current_database()`).Scan(&text)
	if err != nil {
		text = err.Error()
	}
	_ = os.WriteFile(filepath.Join(w.folder, "activity.log"), []byte(text), 0o644) //nolint:gosec // as the folder
}

// rest is since when everybody has been at the same end of the log. Requests of clients that are gone may still be under
// way, so it has to last.
type rest struct {
	end   int64
	since time.Time
}

const restFor = 2 * time.Second

// behind names who has not caught up.
func (w *world) behind(ctx context.Context, js jetstream.JetStream, rested *rest) (who []string) {
	defer func() {
		if len(who) > 0 {
			rested.since = time.Now()
		} else if time.Since(rested.since) < restFor {
			who = append(who, "everybody has only just caught up")
		}
	}()
	end, waiting, err := w.logEnd(ctx)
	if err != nil {
		return []string{"Postgres: " + err.Error()}
	}
	if end != rested.end {
		rested.end = end
		who = append(who, "the log still grows")
	}
	if waiting > 0 {
		who = append(who, fmt.Sprintf("%d parked events are marked and not dealt with", waiting))
	}
	stream, err := js.Stream(ctx, "ORDERS")
	if err != nil {
		return append(who, "the stream: "+err.Error())
	}
	last, err := stream.GetMsg(ctx, stream.CachedInfo().State.LastSeq)
	if err != nil {
		return append(who, "the stream: "+err.Error())
	}
	if progress := progressOf(last.Header); progress < end {
		who = append(who, fmt.Sprintf("the stream ends with position %d, the log with %d", progress, end))
	}
	for i := range w.lags {
		who = append(who, w.lags[i].behind(ctx, w.db, last)...)
	}
	return who
}

func progressOf(header nats.Header) int64 {
	text := header.Get("Outbox-Position")
	if progress := header.Get("Outbox-Progress"); progress != "" {
		text, _, _ = strings.Cut(progress, "/")
	}
	position, _ := strconv.ParseInt(text, 10, 64) // zero is behind
	return position
}

// logEnd is the last position that is not parked, and how many parked events are marked for something.
func (w *world) logEnd(ctx context.Context) (end int64, waiting int, err error) {
	parked := make(map[int64]bool)
	for p, err := range checker.ReadParked(ctx, w.db) {
		if err != nil {
			return 0, 0, err
		}
		parked[p.Position] = true
		if p.State == "redrive" || p.State == "discard" {
			waiting++
		}
	}
	rows, err := w.db.QueryContext(ctx, "SELECT position FROM outbox ORDER BY position DESC LIMIT $1", len(parked)+1)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var position int64
		if err := rows.Scan(&position); err != nil {
			return 0, 0, err
		}
		if !parked[position] {
			return position, waiting, rows.Err()
		}
	}
	return 0, waiting, rows.Err()
}
