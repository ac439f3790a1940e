package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLongestPause checks that the longest pause between messages is found.
func TestLongestPause(t *testing.T) {
	f := &follower{}
	require.Zero(t, f.longest(0))
	for _, second := range []int64{0, 9, 10, 13, 14} {
		f.stored = append(f.stored, time.Unix(second, 0))
	}
	require.Equal(t, 9*time.Second, f.longest(0))
	require.Equal(t, 3*time.Second, f.longest(2), "what was before does not count")
	require.Equal(t, time.Second, f.longest(4))
	require.Zero(t, f.longest(5))
}
