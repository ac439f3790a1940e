package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// The followers ask for the lease all the time; a held one must cost them, its holder and the table nothing.
func TestAskingForAHeldLeaseNeitherLocksNorWritesIt(t *testing.T) {
	h := newHarness(t)
	term, err := h.Elector("leader").Acquire(t.Context())
	require.NoError(t, err)
	version := func() (row string) {
		require.NoError(t, h.others.NewRaw("SELECT ctid || ' ' || xmin || ' ' || xmax FROM leases").Scan(t.Context(), &row))
		return row
	}
	before := version()
	for range 20 {
		_, err := h.Elector("follower").Acquire(t.Context())
		require.ErrorIs(t, err, ports.ErrLeaseHeld)
	}
	require.Equal(t, before, version())

	exec(t, transaction(t, h), "SELECT * FROM leases FOR UPDATE")
	impatient, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = h.Elector("follower").Acquire(impatient)
	require.ErrorIs(t, err, ports.ErrLeaseHeld, "without waiting for whoever has locked the row")
	require.Positive(t, term.Token)
}

// A former leader's save that meets its successor's acquire in the middle must see it.
func TestCursorSaveThatOverlapsTheSuccessorIsRefused(t *testing.T) {
	h := newHarness(t)
	former, err := h.Elector("former").Acquire(t.Context())
	require.NoError(t, err)
	successor := transaction(t, h)
	exec(t, successor, "UPDATE leases SET token = token + 1, holder = 'successor'")

	saved := make(chan error, 1)
	go func() {
		_, err := h.cursors.Save(t.Context(), outbox.Turn{Token: former.Token}, outbox.Cursor{StreamCreated: "x", StreamSequence: 1})
		saved <- err
	}()
	require.Eventually(t, func() bool { // the save has taken its snapshot and waits for the row
		var waiting int
		err := h.admin.NewRaw("SELECT count(*) FROM pg_stat_activity WHERE datname = ? AND wait_event_type = 'Lock'", h.name).
			Scan(t.Context(), &waiting)
		return err == nil && waiting == 1
	}, patience, time.Millisecond)
	exec(t, successor, "COMMIT")
	require.ErrorIs(t, <-saved, ports.ErrLeaseLost)
	cursor, err := h.cursors.Load(t.Context())
	require.NoError(t, err)
	require.Zero(t, cursor)
}

func TestRowsSayWhoWroteThem(t *testing.T) {
	h := newHarness(t)
	term, err := h.Elector("instance-1").Acquire(t.Context())
	require.NoError(t, err)
	_, err = h.cursors.Save(t.Context(), outbox.Turn{Token: term.Token}, outbox.Cursor{StreamCreated: "x", StreamSequence: 7})
	require.NoError(t, err)
	var holder, stream string
	var token int64
	require.NoError(t, h.others.NewRaw(`SELECT l.holder, c.stream, c.token FROM leases AS l JOIN outbox_cursor AS c
		ON c.relay = l.name AND c.stream_sequence = 7`).Scan(t.Context(), &holder, &stream, &token))
	require.Equal(t, "instance-1", holder)
	require.Equal(t, "STREAM", stream)
	require.Equal(t, term.Token, token)
}
