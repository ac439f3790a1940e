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

// recover waits until every command is answered, the log does not grow, the stream and every subscriber have reached the end of the log, and no
// event waits to be redriven.
func (h *harness) recover(t *testing.T, c *writerPool) checker.Recovery {
	t.Helper()
	began := time.Now()
	h.measureLags(t)
	recovery := checker.Recovery{Bound: catchUpBound}
	if !c.stop(catchUpBound) {
		recovery.Behind = append(recovery.Behind, "writers have no answer yet")
	}
	for i := range h.lags {
		h.lags[i].began = time.Now()
	}
	js, err := jetstream.New(h.nc)
	require.NoError(t, err)
	quiet := &quietPeriod{}
	for {
		for _, m := range slices.Concat(h.serving, h.subscribing) {
			require.NoError(t, m.restartIfGaveUp())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		behind := h.behind(ctx, js, quiet)
		cancel()
		if len(behind) == 0 {
			recovery.Took = quiet.since.Sub(began)
			return recovery
		}
		if time.Since(began) > catchUpBound {
			recovery.Took, recovery.Behind = time.Since(began), append(recovery.Behind, behind...)
			h.writeActivity()
			return recovery
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// writeActivity saves what the sessions of Postgres wait for, to find out what hangs.
func (h *harness) writeActivity() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var text string
	err := h.db.QueryRowContext(ctx, `SELECT string_agg(format('%s %s since %s, %s %s, blocked by %s: %s', pid, application_name,
			state_change, wait_event_type, wait_event, pg_blocking_pids(pid), left(query, 200)), E'\n')
		FROM pg_stat_activity WHERE datname = current_database()`).Scan(&text)
	if err != nil {
		text = err.Error()
	}
	_ = os.WriteFile(filepath.Join(h.folder, "activity.log"), []byte(text), 0o644) //nolint:gosec // as the folder
}

// quietPeriod is the time since which the stream and all subscribers have been at the same end of the log. It has to last quietFor, because
// requests of clients that are gone may still be running.
type quietPeriod struct {
	end   int64
	since time.Time
}

const quietFor = 2 * time.Second

// behind returns what has not caught up.
func (h *harness) behind(ctx context.Context, js jetstream.JetStream, quiet *quietPeriod) (who []string) {
	defer func() {
		if len(who) > 0 {
			quiet.since = time.Now()
		} else if time.Since(quiet.since) < quietFor {
			who = append(who, "all have only just caught up")
		}
	}()
	end, waiting, err := h.logEnd(ctx)
	if err != nil {
		return []string{"Postgres: " + err.Error()}
	}
	if end != quiet.end {
		quiet.end = end
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
	for i := range h.lags {
		who = append(who, h.lags[i].behind(ctx, h.db, last)...)
	}
	return who
}

func progressOf(header nats.Header) int64 {
	text := header.Get("Outbox-Position")
	if progress := header.Get("Outbox-Progress"); progress != "" {
		text, _, _ = strings.Cut(progress, "/")
	}
	position, _ := strconv.ParseInt(text, 10, 64) // an unreadable position counts as 0, which is behind
	return position
}

// logEnd returns the last position that is not parked, and how many parked events are marked to be redriven.
func (h *harness) logEnd(ctx context.Context) (end int64, waiting int, err error) {
	parked := make(map[int64]bool)
	for p, err := range checker.ReadParked(ctx, h.db) {
		if err != nil {
			return 0, 0, err
		}
		parked[p.Position] = true
		if p.State == "redrive" {
			waiting++
		}
	}
	rows, err := h.db.QueryContext(ctx, "SELECT position FROM outbox ORDER BY position DESC LIMIT $1", len(parked)+1)
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
