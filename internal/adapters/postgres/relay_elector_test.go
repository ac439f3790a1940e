package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestAskingForAHeldLeaseNeitherLocksNorWritesIt checks that asking for a held lease is cheap, because followers ask all the
// time.
func TestAskingForAHeldLeaseNeitherLocksNorWritesIt(t *testing.T) {
	h := newHarness(t)
	term, err := h.Elector("leader").Acquire(t.Context(), 0)
	require.NoError(t, err)
	version := func() (row string) {
		require.NoError(t, h.others.NewRaw("SELECT ctid || ' ' || xmin || ' ' || xmax FROM leases").Scan(t.Context(), &row))
		return row
	}
	before := version()
	for range 20 {
		_, err := h.Elector("follower").Acquire(t.Context(), 0)
		require.ErrorIs(t, err, relay.ErrLeaseHeld)
	}
	require.Equal(t, before, version())

	exec(t, transaction(t, h), "SELECT * FROM leases FOR UPDATE")
	impatient, cancel := context.WithTimeout(t.Context(), beginTimeout)
	defer cancel()
	_, err = h.Elector("follower").Acquire(impatient, 0)
	require.ErrorIs(t, err, relay.ErrLeaseHeld, "without waiting for the lock")
	require.Positive(t, term.Token)
}

func TestRowsSayWhoWroteThem(t *testing.T) {
	h := newHarness(t)
	term, err := h.Elector("instance-1").Acquire(t.Context(), 0)
	require.NoError(t, err)
	_, err = h.cursors.Save(t.Context(), relay.WriteFence{Token: term.Token}, relay.Cursor{StreamCreated: "x", StreamSequence: 7})
	require.NoError(t, err)
	var holder, stream string
	var token int64
	require.NoError(t, h.others.NewRaw(`SELECT l.holder, c.stream, c.token FROM leases AS l JOIN outbox_cursor AS c
		ON c.relay = l.name AND c.stream_sequence = 7`).Scan(t.Context(), &holder, &stream, &token))
	require.Equal(t, "instance-1", holder)
	require.Equal(t, "STREAM", stream)
	require.Equal(t, term.Token, token)
}
