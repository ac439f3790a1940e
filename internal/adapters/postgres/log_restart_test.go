package postgres_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestLogWaitsForPreparedTransactionsOverARestart checks that the log still waits for a prepared transaction after a restart of
// the server, which gives the transaction another virtual id.
func TestLogWaitsForPreparedTransactionsOverARestart(t *testing.T) {
	server := infra.Postgres(t)
	h := newHarnessAt(t, server.URL)
	early := transaction(t, h)
	first := insert(t, early, "first")
	second := insert(t, h.others, "second")
	exec(t, early, "PREPARE TRANSACTION 'early'")
	answer := readWaiting(t, h)

	server.Kill()
	lost := <-answer
	require.Equal(t, fault.Unavailable, fault.KindOf(lost.err), "%v", lost.err)
	_, err := h.log.After(t.Context(), outbox.Progress{}, plenty)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	server.Start()

	answer = readWaiting(t, h)
	requireWaiting(t, answer)
	exec(t, h.others, "COMMIT PREPARED 'early'")
	requireRead(t, answer, first, second)
}

func TestLogRefusesAnUnsafeServer(t *testing.T) {
	for _, setting := range []string{"fsync", "full_page_writes"} {
		t.Run(setting, func(t *testing.T) {
			server := infra.Postgres(t, func(o *embedded.PostgresOptions) { o.Parameters = map[string]string{setting: "off"} })
			err := newHarnessAt(t, server.URL).log.Check(t.Context())
			require.ErrorIs(t, err, postgres.ErrUnsafe)
			require.ErrorContains(t, err, setting+" is off")
		})
	}
}

// TestLogRefusesAStandby checks that the log refuses a standby. A standby does not show open transactions, so that gaps cannot
// be checked.
func TestLogRefusesAStandby(t *testing.T) {
	server := infra.Postgres(t)
	h := newHarnessAt(t, server.URL)
	insert(t, h.others, "first")
	var data string
	require.NoError(t, h.others.NewRaw("SHOW data_directory").Scan(t.Context(), &data))
	server.Stop()
	require.NoError(t, os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o644))
	server.Start()

	require.ErrorContains(t, h.db.PingContext(t.Context()), "standby", "no session is kept that leads there")
	_, err := h.log.After(t.Context(), outbox.Progress{}, plenty)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "standby")
	err = h.log.Check(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "it may be promoted, or the name may move: %v", err)
	require.ErrorContains(t, err, "standby")
	_, err = h.relayAdmin().Status(t.Context())
	require.ErrorContains(t, err, "standby")

	_, err = h.Elector("instance-1").Acquire(t.Context(), 0)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
}
