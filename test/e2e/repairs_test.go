package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/damage"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// damagedStream is a service whose stream or log a test damages.
type damagedStream struct{ *damage.Service }

func newDamagedStream(t *testing.T) *damagedStream {
	t.Helper()
	return &damagedStream{damage.New(t)}
}

// TestRepairs checks that the operator's commands report and repair each halt on real servers: an adoption shows its plan, changes nothing
// without --yes, and then the relay continues.
func TestRepairs(t *testing.T) {
	reasons := []relay.HaltReason{relay.HaltStreamUnfit} // TestUnfitStreamIsRepaired
	for _, kind := range damage.Kinds() {
		reasons = append(reasons, kind.Halt)
	}
	require.ElementsMatch(t, relay.HaltReasons(), reasons)
	for name, kind := range damage.Kinds() {
		t.Run(name, func(t *testing.T) {
			d := newDamagedStream(t)
			said, err := infra.Outboxie(t, d.Environment, "outbox", "adopt")
			require.Error(t, err)
			require.Contains(t, said, "not halted")
			d.Do(kind)
			d.repair(string(kind.Halt), kind.Plan)
			placeMany(t, d.Instance.API(), 1)
			require.Eventually(t, func() bool { return d.Appended() == kind.Holds }, waitTimeout, 10*time.Millisecond,
				"there should be %d messages", kind.Holds)
			if remade := kind.Halt == relay.HaltStreamMissing || kind.Halt == relay.HaltStreamReplaced; remade {
				require.Greater(t, published(t, d.Broker.URL), uint64(1_000_000_000), "no sequence of the former stream comes again")
			}
			said, err = infra.Outboxie(t, d.Environment, "outbox", "status")
			require.NoError(t, err)
			require.Contains(t, said, "relaying")
		})
	}
}

// repair runs the repair that outbox status names.
func (d *damagedStream) repair(halt, plan string) {
	t := d.T
	require.Eventually(t, func() bool {
		said, err := infra.Outboxie(t, d.Environment, "outbox", "status")
		return err == nil && strings.Contains(said, halt) && strings.Contains(said, "outboxie outbox adopt")
	}, waitTimeout, 50*time.Millisecond)
	require.Contains(t, d.Instance.String(), halt)
	said, err := infra.Outboxie(t, d.Environment, "outbox", "adopt")
	require.Error(t, err)
	for _, says := range []string{halt, plan, "repeat the command with --yes"} {
		require.Contains(t, said, says)
	}
	time.Sleep(100 * time.Millisecond)
	said, err = infra.Outboxie(t, d.Environment, "outbox", "status")
	require.NoError(t, err)
	require.Contains(t, said, halt, "nothing was done")
	said, err = infra.Outboxie(t, d.Environment, "outbox", "adopt", "--yes")
	require.NoError(t, err, said)
}
