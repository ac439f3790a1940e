package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TestForgottenSubscribersStayForgotten checks that CreateLanes and Subscribe fail while there is a tombstone, and that a
// heartbeat shows the tombstone.
func TestForgottenSubscribersStayForgotten(t *testing.T) {
	h := newHarness(t)
	in := newInbox(h.db)
	require.NoError(t, in.CreateLanes(t.Context(), emails, 2, "S", inbox.StreamPosition{}))
	require.NoError(t, in.Subscribe(t.Context(), emails, "totals", []string{"a"}))
	exec(t, h.others, "DELETE FROM subscriber_lanes")
	exec(t, h.others, "UPDATE subscribers SET forgotten_at = '2026-11-29', paused_at = '2026-11-28'")
	require.ErrorIs(t, in.CreateLanes(t.Context(), emails, 1, "S", inbox.StreamPosition{}), inbox.ErrForgotten)
	for _, types := range [][]string{nil, {"a"}, {"b"}} {
		require.ErrorIs(t, in.Subscribe(t.Context(), emails, "totals", types), inbox.ErrForgotten)
	}
	view, err := in.Heartbeat(t.Context(), emails, "copy")
	require.NoError(t, err)
	require.Empty(t, view.Lanes)
	require.Equal(t, 2026, view.Forgotten.Year())
	require.True(t, view.Paused)
	require.Equal(t, []string{"a"}, view.Types)
	require.Zero(t, count(t, h, "SELECT count(*)::int FROM subscriber_lanes"))

	exec(t, h.others, "UPDATE subscribers SET forgotten_at = NULL")
	require.NoError(t, in.CreateLanes(t.Context(), emails, 3, "S", inbox.StreamPosition{}))
	require.Equal(t, 3, count(t, h, "SELECT count(*)::int FROM subscriber_lanes"))
}

// TestSubscribingToNothingNewIsOneStatement checks that Subscribe sends one statement if the subscriber already has these event
// types.
func TestSubscribingToNothingNewIsOneStatement(t *testing.T) {
	h := newHarness(t)
	sent := &statements{}
	in := newInbox(h.db.WithQueryHook(sent))
	require.NoError(t, in.CreateLanes(t.Context(), emails, 2, "S", inbox.StreamPosition{}))
	require.NoError(t, in.Subscribe(t.Context(), emails, "totals", []string{"a", "b"}))
	sent.operations = nil
	require.NoError(t, in.Subscribe(t.Context(), emails, "totals", []string{"b"}))
	require.Equal(t, []string{"SELECT"}, sent.operations)
}
