package httpapi

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// TestAFloodOfRefusalsIsOneLineAMinute checks that the second line of a kind reports how many refusals of that kind were not logged.
func TestAFloodOfRefusalsIsOneLineAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRefusals("API", nil, nil)
		require.Equal(t, []int{0, -1, -1}, lines(r, refusedToken, 3))
		require.Equal(t, []int{0}, lines(r, refusedHost, 1), "another kind")
		time.Sleep(refusalInterval - time.Nanosecond)
		require.Equal(t, []int{-1}, lines(r, refusedToken, 1))
		time.Sleep(time.Nanosecond)
		require.Equal(t, []int{3, -1}, lines(r, refusedToken, 2))
		time.Sleep(time.Hour)
		require.Equal(t, []int{1}, lines(r, refusedToken, 1))
		require.Equal(t, []int{0}, lines(r, refusedHost, 1))
	})
}

// TestCutKeepsWholeCharacters checks that a text of a client that is too long for the log stays UTF-8, wherever the limit is.
func TestCutKeepsWholeCharacters(t *testing.T) {
	require.Equal(t, strings.Repeat("x", maxLogged), cut(strings.Repeat("x", maxLogged)))
	for before := range 4 {
		text := cut(strings.Repeat("x", before) + strings.Repeat("€", maxLogged))
		require.True(t, utf8.ValidString(text), "%q", text)
		require.Equal(t, strings.Repeat("x", before)+strings.Repeat("€", (maxLogged-before)/len("€"))+"…", text)
	}
}

// lines makes refusals of a kind. For each refusal, it returns the number of suppressed refusals in the log line, or -1 if there is no line.
func lines(r *refusals, kind refusal, count int) []int {
	told := make([]int, count)
	for i := range told {
		suppressed, due := r.due(kind)
		if told[i] = suppressed; !due {
			told[i] = -1
		}
	}
	return told
}
