package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/operating/operatingtest"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func TestLog(t *testing.T) {
	outboxtest.TestLog(t, func(t *testing.T) outboxtest.LogHarness { return newParallel(t) })
}

func TestElector(t *testing.T) {
	outboxtest.TestElector(t, func(t *testing.T) outboxtest.ElectorHarness { return newParallel(t) })
}

func TestSequence(t *testing.T) {
	outboxtest.TestSequence(t, func(t *testing.T) outboxtest.ParkingHarness { return newParallel(t) })
}

func TestCursorStore(t *testing.T) {
	outboxtest.TestCursorStore(t, func(t *testing.T) outboxtest.CursorHarness { return newParallel(t) })
}

func TestParking(t *testing.T) {
	outboxtest.TestParking(t, func(t *testing.T) outboxtest.ParkingHarness { return newParallel(t) })
}

func TestRetention(t *testing.T) {
	outboxtest.TestRetention(t, func(t *testing.T) outboxtest.RetentionHarness { return newParallel(t) })
}

func TestBench(t *testing.T) {
	operatingtest.TestBench(t, func(t *testing.T) operatingtest.BenchHarness { return newParallel(t) })
}

func TestInstanceHalts(t *testing.T) {
	outboxtest.TestInstanceHalts(t, func(t *testing.T) outboxtest.HaltsHarness { return haltsHarness{newParallel(t)} })
}

// haltsHarness ages reports, where a harness ages rows of the log.
type haltsHarness struct{ *harness }

func (h haltsHarness) InstanceHalts(instance string) ports.InstanceHalts {
	return postgres.NewInstanceHalts(h.db, relay, instance)
}

func (h haltsHarness) Reported(t *testing.T) []operating.InstanceHalt {
	t.Helper()
	status, err := h.desk().Status(t.Context())
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

func TestJournal(t *testing.T) {
	operatingtest.TestJournal(t, func(t *testing.T) operatingtest.JournalHarness { return newParallel(t) })
}

// The mutant "gap check off" must lose events, or the test that a reader follows the writers proves nothing.
func TestFollowingNoticesALogThatDoesNotWait(t *testing.T) {
	h := newHarness(t)
	h.log.IgnoreWriters()
	require.NotEmpty(t, outboxtest.FollowWriters(t, h))
}
