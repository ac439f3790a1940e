package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/operationstest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func TestLog(t *testing.T) {
	relaytest.TestLog(t, func(t *testing.T) relaytest.LogHarness { return newHarness(t) })
}

func TestElector(t *testing.T) {
	relaytest.TestElector(t, func(t *testing.T) relaytest.ElectorHarness { return newHarness(t) })
}

func TestSequence(t *testing.T) {
	relaytest.TestSequence(t, func(t *testing.T) relaytest.ParkingHarness { return newHarness(t) })
}

func TestCursorStore(t *testing.T) {
	relaytest.TestCursorStore(t, func(t *testing.T) relaytest.CursorHarness { return newHarness(t) })
}

func TestParking(t *testing.T) {
	relaytest.TestParking(t, func(t *testing.T) relaytest.ParkingHarness { return newHarness(t) })
}

func TestRetention(t *testing.T) {
	relaytest.TestRetention(t, func(t *testing.T) relaytest.RetentionHarness { return newHarness(t) })
}

func TestRelayRepair(t *testing.T) {
	operationstest.TestRelayRepair(t, func(t *testing.T) operationstest.RelayRepairHarness { return newHarness(t) })
}

func TestInstanceHalts(t *testing.T) {
	relaytest.TestInstanceHalts(t, func(t *testing.T) relaytest.HaltsHarness { return haltsHarness{newHarness(t)} })
}

// haltsHarness is a harness whose Age makes the reports of halts older, not the rows of the log.
type haltsHarness struct{ *harness }

func (h haltsHarness) InstanceHalts(instance string) relay.InstanceHalts {
	return postgres.NewInstanceHalts(h.db, relayName, instance)
}

func (h haltsHarness) Reported(t *testing.T) []operations.InstanceHalt {
	t.Helper()
	status, err := h.relayAdmin().Status(t.Context())
	require.NoError(t, err)
	return status.HaltedInstances
}

func (h haltsHarness) Age(t *testing.T, by time.Duration) {
	t.Helper()
	_, err := h.others.ExecContext(t.Context(),
		"UPDATE outbox_halts SET halted_at = halted_at - ?0 * interval '1 microsecond', reported_at = reported_at - ?0 * interval '1 microsecond'",
		by.Microseconds())
	require.NoError(t, err)
}

func TestEventLog(t *testing.T) {
	operationstest.TestEventLog(t, func(t *testing.T) operationstest.EventLogHarness { return newHarness(t) })
}

// TestFollowingNoticesALogThatDoesNotWait checks that the mutant "gap check off" loses events. Otherwise the test that a reader
// follows the writers would prove nothing.
func TestFollowingNoticesALogThatDoesNotWait(t *testing.T) {
	h := newHarness(t)
	h.log.IgnoreWriters()
	require.NotEmpty(t, relaytest.FollowWriters(t, h))
}

func TestEffectReader(t *testing.T) {
	operationstest.TestEffectReader(t, func(t *testing.T) operationstest.EffectStore {
		h := newHarness(t)
		store := h.sweepStore()
		return operationstest.EffectStore{
			Effects: postgres.NewEffectReader(h.db), Checkpoints: store.Checkpoints, UnitOfWork: store.UnitOfWork, Letters: store.Letters,
			Operator: postgres.NewOperator(h.db), AppendToLog: store.AppendToLog,
		}
	})
}
