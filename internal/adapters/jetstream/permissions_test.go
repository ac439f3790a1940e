package jetstream_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// permittedSubjects are the subjects that docker/nats-permissions.conf permits: those of the order service.
const permittedSubjects = "orders.>"

// permitted is a server with the permissions of docker/nats-permissions.conf, and an administrator.
type permitted struct {
	port    int
	process *infra.NATSProcess
}

func newPermitted(t *testing.T) *permitted {
	t.Helper()
	permissions, err := os.ReadFile("../../../docker/nats-permissions.conf")
	require.NoError(t, err)
	config := regexp.MustCompile(`\$NATS_\w+_PASSWORD`).ReplaceAllString(string(permissions), "secret")
	config = strings.Replace(config, "users = [", "users = [\n{user: admin, password: secret}", 1)
	p := &permitted{port: infra.Port(t)}
	p.process = infra.StartNATSProcess(t, fmt.Sprintf("listen: 127.0.0.1:%d\njetstream { store_dir: %q, sync_interval: always }\n%s",
		p.port, filepath.Join(t.TempDir(), "nats"), config))
	return p
}

func (p *permitted) as(t *testing.T, user string) *nats.Conn {
	t.Helper()
	nc, err := jetstream.Connect(jetstream.Options{
		URL: fmt.Sprintf("nats://%s:secret@127.0.0.1:%d", user, p.port), Name: t.Name(), Logger: silent,
	})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// TestSubscribersRights checks that docker/nats-permissions.conf lets a subscriber do all that it needs.
func TestSubscribersRights(t *testing.T) {
	p := newPermitted(t)
	relay := p.as(t, "relay")
	publisher, err := jetstream.NewPublisher(relay, jetstream.PublisherOptions{Stream: stream, Subjects: permittedSubjects, Source: source, Logger: silent})
	require.NoError(t, err)
	reader := newReaderOf(t, p.as(t, "subscriber"), permittedSubjects, silent)

	start := time.Now()
	_, err = reader.Read(t.Context(), 1, everything)
	require.Error(t, err)
	t.Logf("without a stream: %v after %s", err, time.Since(start))
	require.ErrorIs(t, err, inbox.ErrNoStream)

	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	entries := relaytest.NewEntries(0, 1000)
	for i := range entries {
		entries[i].Subject = "orders.created"
	}
	_, err = publisher.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	select {
	case <-reader.Stored():
	case <-time.After(patience):
		require.Fail(t, "notifications do not cross accounts")
	}
	messages, err := reader.Read(t.Context(), 1, inbox.ReadLimit{Count: 1000, Bytes: 8 << 20})
	require.NoError(t, err)
	require.Len(t, messages, 1000)
	state, err := reader.State(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1000, state.Last)
	_, found, err := reader.LegacyConsumer(t.Context())
	require.NoError(t, err)
	require.False(t, found)
	admin, err := natsjs.New(p.as(t, "admin"))
	require.NoError(t, err)
	_, err = admin.CreateConsumer(t.Context(), stream, natsjs.ConsumerConfig{Durable: subscribe, AckPolicy: natsjs.AckExplicitPolicy})
	require.NoError(t, err)
	_, found, err = reader.LegacyConsumer(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	publishStrays(t, admin)
	messages, err = reader.Read(t.Context(), 1000, everything)
	require.NoError(t, err)
	require.Len(t, messages, 3)
	require.Len(t, messages[2].Event.Headers, 200)

	consumers, err := jetstream.NewSubscriberLags(relay, stream, permittedSubjects)
	require.NoError(t, err)
	events, _, err := consumers.LagOf(t.Context(), 999)
	require.NoError(t, err)
	require.EqualValues(t, 3, events)
	require.NoError(t, relay.LastError())

	forbidDirectGets(t, admin)
	start = time.Now()
	_, err = reader.Read(t.Context(), 1, everything)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.ErrorContains(t, err, "allow_direct")
	t.Logf("without direct gets: %v after %s", err, time.Since(start))
}

// publishStrays publishes two messages that do not come from the relay. The second one has so many headers that a reader asks the stream's
// leader.
func publishStrays(t *testing.T, admin natsjs.JetStream) {
	t.Helper()
	_, err := admin.Publish(t.Context(), "orders.stray", nil)
	require.NoError(t, err)
	many := &nats.Msg{Subject: "orders.stray", Header: nats.Header{}}
	for i := range 200 {
		many.Header.Set(fmt.Sprint("Header-", i), "x")
	}
	_, err = admin.PublishMsg(t.Context(), many)
	require.NoError(t, err)
}

func forbidDirectGets(t *testing.T, admin natsjs.JetStream) {
	t.Helper()
	config, err := admin.Stream(t.Context(), stream)
	require.NoError(t, err)
	closed := config.CachedInfo().Config
	closed.AllowDirect = false
	_, err = admin.UpdateStream(t.Context(), closed)
	require.NoError(t, err)
}
