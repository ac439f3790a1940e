package upgrade_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestUpdateOfARelease checks what docs/upgrading.md says about v0.1.0. Its database and its stream are upgraded while its instance and its
// subscribers run. They are replaced one after the other under load, in both directions, and each event takes effect once, in order. The
// stream then has every event of the log once, and no migration is left to do.
func TestUpdateOfARelease(t *testing.T) {
	s := newShop(t, released)
	instance := s.old("old", "serve")
	s.placeAt(instance.API())
	former := []*infra.Process{s.old("old-1", "subscribe", "--id", "emails"), s.old("old-2", "subscribe", "--id", "emails")}
	stop := s.load()
	defer stop()
	s.progress()

	require.Zero(t, s.command("migrate", "up"), "the tables, while the former program runs")
	s.progress()
	current := infra.Serve(t, "new", s.environment)
	s.placeAt(current.API())
	s.progress()
	require.Zero(t, instance.Stop(syscall.SIGTERM))
	current.WaitFor("became leader")
	copies := []*infra.Process{s.subscriber("new-1", "emails"), s.subscriber("new-2", "emails")}
	for i, copied := range copies {
		copied.WaitFor("subscribed")
		s.progress()
		require.Zero(t, former[i].Stop(syscall.SIGTERM))
	}
	s.progress()

	back := s.old("back", "serve")
	s.placeAt(back.API())
	s.progress()
	require.Zero(t, current.Stop(syscall.SIGTERM))
	s.old("back-1", "subscribe", "--id", "emails").WaitFor("subscribed")
	for _, copied := range copies {
		require.Zero(t, copied.Stop(syscall.SIGTERM))
	}
	s.progress()
	stop()
	s.requireEffects()
	s.requireStream()
}

// command runs a command of this program on the shop's servers, and returns its exit code.
func (s *shop) command(args ...string) int {
	s.t.Helper()
	cmd := exec.Command(infra.Binary(s.t), args...) //nolint:gosec // built from this repository
	cmd.Env = slices.Concat(os.Environ(), s.environment)
	said, err := cmd.CombinedOutput()
	s.t.Logf("outboxie %s\n%s", strings.Join(args, " "), said)
	if cmd.ProcessState == nil {
		require.NoError(s.t, err)
	}
	return cmd.ProcessState.ExitCode()
}

// requireStream requires that the stream has the events of the log: each once, and in the order of the log.
func (s *shop) requireStream() {
	s.t.Helper()
	address, _ := strings.CutPrefix(s.environment[1], "NATS_URL=")
	nc, err := nats.Connect(address)
	require.NoError(s.t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(s.t, err)
	consumer, err := js.OrderedConsumer(s.t.Context(), "ORDERS", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"orders.>"}})
	require.NoError(s.t, err)
	rows, err := s.db.Query("SELECT event_id FROM outbox ORDER BY position")
	require.NoError(s.t, err)
	defer rows.Close()
	var log []string
	for rows.Next() {
		var id string
		require.NoError(s.t, rows.Scan(&id))
		log = append(log, id)
	}
	require.NoError(s.t, rows.Err())
	var stream []string
	for len(stream) < len(log) {
		batch, err := consumer.FetchNoWait(1000)
		require.NoError(s.t, err)
		before := len(stream)
		for message := range batch.Messages() {
			if id := message.Headers().Get("ce-id"); id != "" {
				stream = append(stream, id)
			}
		}
		require.NoError(s.t, batch.Error())
		require.Greater(s.t, len(stream), before, "the stream has %d of %d events", len(stream), len(log))
	}
	require.Equal(s.t, log, stream)
}
