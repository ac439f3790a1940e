package httpapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// TestParseMoveTarget checks which texts name a target of a move in the stream.
func TestParseMoveTarget(t *testing.T) {
	at := time.Date(2026, 11, 29, 10, 0, 0, 5, time.UTC)
	for text, want := range map[string]operations.MoveTarget{
		"start": {}, "end": {End: true}, "sequence:0": {}, "sequence:12": {Sequence: 12}, "position:7": {Position: 7},
		"time:2026-11-29T10:00:00.000000005Z": {Before: at},
	} {
		got, err := httpapi.ParseMoveTarget(text)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "12", "sequence:", "sequence:-1", "sequence:x", "position:99999999999999999999", "time:10:00", "end:1", "Start", fmt.Sprint(at)} {
		_, err := httpapi.ParseMoveTarget(text)
		require.ErrorIs(t, err, operations.ErrMoveTarget, text)
	}
}
