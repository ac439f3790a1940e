package jetstream_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func TestStreamIsNeverShrunk(t *testing.T) {
	b := newBroker(t)
	_, err := b.admin.CreateStream(t.Context(), natsjs.StreamConfig{
		Name: stream, Subjects: []string{"things.happened", "vouchers.>"}, MaxBytes: 64 << 20, MaxAge: 48 * time.Hour,
		MaxMsgSize: 4096, Duplicates: time.Hour, MaxMsgs: 5_000_000,
	})
	require.NoError(t, err)
	var log strings.Builder
	options := jetstream.PublisherOptions{
		MaxBytes: 1 << 20, MaxAge: time.Hour, MaxMsgSize: 8192,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	publisher := b.publisher(options)
	for range 3 {
		_, err = publisher.Open(t.Context(), 0)
		require.NoError(t, err)
	}
	config := b.info().Config
	require.ElementsMatch(t, []string{"vouchers.>", "things.>", "outboxie.ORDERS.notices"}, config.Subjects)
	require.True(t, config.AllowAtomicPublish)
	require.Equal(t, int64(64<<20), config.MaxBytes)
	require.Equal(t, 48*time.Hour, config.MaxAge)
	require.Equal(t, int32(8192), config.MaxMsgSize, "growing is fine")
	require.Equal(t, time.Hour, config.Duplicates)
	require.Equal(t, int64(5_000_000), config.MaxMsgs)
	require.Equal(t, 1, strings.Count(log.String(), "max_bytes: the stream has 67108864, configured is 1048576"), log.String())
	require.Equal(t, 1, strings.Count(log.String(), "max_age: the stream has 48h0m0s, configured is 1h0m0s"), log.String())
	require.Equal(t, 1, strings.Count(log.String(), "brought the stream up to date"), log.String())

	options.MaxBytes, options.MaxAge, options.MaxMsgSize = -1, -1, -1
	_, err = b.publisher(options).Open(t.Context(), 0)
	require.NoError(t, err)
	config = b.info().Config
	require.Equal(t, int64(-1), config.MaxBytes)
	require.Zero(t, config.MaxAge)
	require.Equal(t, int32(-1), config.MaxMsgSize)
}

func TestStreamIsCreatedAsConfigured(t *testing.T) {
	b := newBroker(t)
	publisher := b.publisher(jetstream.PublisherOptions{MaxBytes: 64 << 20, MaxAge: 48 * time.Hour, MaxMsgSize: 4096})
	info, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	stored := b.info()
	require.Equal(t, stored.Created.UTC().Format(time.RFC3339Nano), info.Created)
	config := stored.Config
	require.Equal(t, natsjs.FileStorage, config.Storage)
	require.Equal(t, []string{"things.>", "outboxie.ORDERS.notices"}, config.Subjects)
	require.True(t, config.AllowAtomicPublish)
	require.Equal(t, int64(64<<20), config.MaxBytes)
	require.Equal(t, 48*time.Hour, config.MaxAge)
	require.Equal(t, int32(4096), config.MaxMsgSize)
	require.Equal(t, 1, config.Replicas)
}

func TestPurgedStreamKeepsItsTail(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	_, err := publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 20))
	require.NoError(t, err)
	found, err := b.admin.Stream(t.Context(), stream)
	require.NoError(t, err)
	require.NoError(t, found.Purge(t.Context()))
	info, err := publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, uint64(20), info.LastSequence)
	_, err = publisher.At(t.Context(), 20)
	require.ErrorIs(t, err, relay.ErrNoMessage)
	_, err = publisher.Publish(t.Context(), 20, relaytest.NewEntries(20, 20))
	require.NoError(t, err)
}

func TestFullStreamIsAnOutage(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	config := b.info().Config
	config.MaxMsgs, config.Discard = 3, natsjs.DiscardNew
	_, err := b.admin.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	last, err := publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 5))
	requireOutage(t, err)
	require.Equal(t, uint64(3), last)
	last, err = publisher.Publish(t.Context(), 3, relaytest.NewEntries(3, 20))
	requireOutage(t, err)
	require.Equal(t, uint64(3), last)
}
