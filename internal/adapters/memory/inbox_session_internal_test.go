package memory

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLateIdleTimer checks that the idle timer of an earlier rest does not end a transaction that has run a statement since.
func TestLateIdleTimer(t *testing.T) {
	s, err := NewInbox().open(t.Context())
	require.NoError(t, err)
	defer s.close()
	late := s.rests
	require.NoError(t, s.do(t.Context(), "a statement", func() error { return nil }))
	s.expire(late)
	require.NoError(t, s.do(t.Context(), "another statement", func() error { return nil }))
	s.expire(s.rests)
	require.ErrorIs(t, s.do(t.Context(), "a statement after the end", func() error { return nil }), errIdle)
}
