package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

var errMissing = fault.New(fault.NotFound, "thing_missing", "there is no %s", "thing")

// TestErrorsAreTheSameByCode checks that errors.Is compares faults by their code.
func TestErrorsAreTheSameByCode(t *testing.T) {
	require.ErrorIs(t, errMissing.With("there is no thing 7"), errMissing)
	require.ErrorIs(t, errMissing.On("id", "unknown"), errMissing)
	require.ErrorIs(t, errMissing.Wrap(errors.New("0 rows")), errMissing)
	require.ErrorIs(t, fmt.Errorf("get: %w", errMissing), errMissing)
	require.ErrorIs(t, fault.New(fault.Internal, "thing_missing", "elsewhere"), errMissing)
	require.NotErrorIs(t, fault.New(fault.NotFound, "other_missing", "there is no thing"), errMissing)
	require.NotErrorIs(t, errMissing, errors.New("there is no thing"))
}

// TestWrapKeepsTheCauseFindable checks that errors.Is finds both the fault and its cause.
func TestWrapKeepsTheCauseFindable(t *testing.T) {
	wrapped := errMissing.Wrap(fmt.Errorf("query: %w", context.Canceled))
	require.ErrorIs(t, wrapped, context.Canceled)
	require.ErrorIs(t, wrapped, errMissing)
	require.EqualError(t, wrapped, "there is no thing: query: context canceled")
	require.Equal(t, fault.NotFound, fault.KindOf(wrapped))
}

// TestCopiesLeaveTheSentinelAlone checks that With, On and Wrap do not change the original.
func TestCopiesLeaveTheSentinelAlone(t *testing.T) {
	blamed := errMissing.On("id", "unknown").With("changed").Wrap(errors.New("cause"))
	require.Equal(t, []fault.Field{{Name: "id", Reason: "unknown"}}, blamed.Fields)
	twice := blamed.On("name", "empty")
	require.Len(t, twice.Fields, 2)
	require.Len(t, blamed.Fields, 1)
	require.EqualError(t, errMissing, "there is no thing")
	require.Empty(t, errMissing.Fields)
	require.NoError(t, errMissing.Unwrap())
}

// TestKindOf checks that the first fault in the chain decides the kind, and that other errors are Internal.
func TestKindOf(t *testing.T) {
	for _, kind := range []fault.Kind{
		fault.Internal, fault.Invalid, fault.NotFound, fault.Conflict, fault.Unavailable, fault.Refused,
	} {
		require.Equal(t, kind, fault.KindOf(fmt.Errorf("deep: %w", fault.New(kind, "code", "detail"))))
	}
	require.Equal(t, fault.Internal, fault.KindOf(errors.New("nobody classified it")))
	require.Equal(t, fault.Internal, fault.KindOf(nil))
	require.Equal(t, fault.Internal, fault.KindOf(context.DeadlineExceeded))
	inner := fault.New(fault.Unavailable, "down", "down")
	require.Equal(t, fault.NotFound, fault.KindOf(errMissing.Wrap(inner)), "the first in the chain decides")
	require.Equal(t, fault.Unavailable, fault.KindOf(errors.Join(context.Canceled, inner)))
}

// TestKindsHaveNames checks the name of each kind.
func TestKindsHaveNames(t *testing.T) {
	for kind, name := range map[fault.Kind]string{
		fault.Internal: "internal", fault.Invalid: "invalid", fault.NotFound: "not_found", fault.Conflict: "conflict",
		fault.Unavailable: "unavailable", fault.Refused: "refused", fault.Kind(99): "internal",
	} {
		require.Equal(t, name, kind.String())
	}
}

// TestErrorWithoutDetailIsItsCode checks that a fault without a detail prints its code.
func TestErrorWithoutDetailIsItsCode(t *testing.T) {
	require.EqualError(t, fault.New(fault.Conflict, "just_a_code", ""), "just_a_code")
}
