package jetstream_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// answer is a server's answer to a direct get: a message, or a status.
type answer struct {
	sequence, previous uint64
	status             string
}

func (a answer) message(to string) *nats.Msg {
	header := nats.Header{"Nats-Last-Sequence": {strconv.FormatUint(a.previous, 10)}, "Nats-Num-Pending": {"0"}}
	if a.status != "" {
		header["Status"] = []string{a.status}
		return &nats.Msg{Subject: to, Header: header}
	}
	header["Nats-Stream"], header["Nats-Subject"] = []string{stream}, []string{"things.happened"}
	header["Nats-Sequence"] = []string{strconv.FormatUint(a.sequence, 10)}
	header["Nats-Time-Stamp"] = []string{"2026-11-29T10:00:00.000000001Z"}
	return &nats.Msg{Subject: to, Header: header, Data: []byte("x")}
}

// TestReadFailsIfAMessageIsLost checks reads whose answers come from the test instead of the server. A read fails unless each
// message names the sequence of the message before, and the end names the last sequence.
func TestReadFailsIfAMessageIsLost(t *testing.T) {
	b := newBroker(t)
	var given []answer
	server := b.connect()
	_, err := server.Subscribe("$JS.API.DIRECT.GET.ORDERS", func(request *nats.Msg) {
		for _, a := range given {
			_ = server.PublishMsg(a.message(request.Reply))
		}
	})
	require.NoError(t, err)
	b.settled(t)
	reader := b.reader(t)
	whole := []answer{{sequence: 4}, {sequence: 5, previous: 4}, {sequence: 9, previous: 5}, {previous: 9, status: "204"}}
	given = whole
	messages, err := reader.Read(t.Context(), 3, everything)
	require.NoError(t, err)
	require.Len(t, messages, 3)
	for missing := range 3 {
		given = slices.Delete(slices.Clone(whole), missing, missing+1)
		_, err = reader.Read(t.Context(), 3, everything)
		requireOutage(t, err)
		require.ErrorContains(t, err, "were lost on the way")
	}
	for what, bad := range map[string][]answer{
		"before the first":  {{sequence: 2}, {previous: 2, status: "204"}},
		"backwards":         {{sequence: 5}, {sequence: 4, previous: 5}, {previous: 4, status: "204"}},
		"the same again":    {{sequence: 5}, {sequence: 5, previous: 5}, {previous: 5, status: "204"}},
		"an early end":      {{sequence: 5}, {status: "404"}},
		"a refusal":         {{status: "408"}},
		"another mistake":   {{sequence: 5}, {status: "500"}},
		"the end of others": {{sequence: 5}, {previous: 6, status: "204"}},
	} {
		given = bad
		_, err = reader.Read(t.Context(), 3, everything)
		require.Error(t, err, what)
		requireOutage(t, err)
	}
	given = []answer{{status: "404"}}
	messages, err = reader.Read(t.Context(), 3, everything)
	require.NoError(t, err)
	require.Empty(t, messages)
}

// TestMirrorShowsNoHoles checks reads that a mirror may answer instead of the stream. The mirror has only some of the messages.
// Still, no read shows a hole that the stream does not have.
func TestMirrorShowsNoHoles(t *testing.T) {
	r := newReading(t)
	r.Append(t, relaytest.NewEntries(0, 10)...)
	for range 5 {
		r.AppendForeign(t)
	}
	_, err := r.admin.CreateStream(t.Context(), natsjs.StreamConfig{
		Name: "COPY", MirrorDirect: true, Mirror: &natsjs.StreamSource{Name: stream, FilterSubject: "things.stray"},
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		mirror, err := r.admin.Stream(t.Context(), "COPY")
		return err == nil && mirror.CachedInfo().State.Msgs == 5
	}, patience, 10*time.Millisecond)
	reader := r.reader(t)
	failed, read := 0, 0
	for range 200 {
		messages, err := reader.Read(t.Context(), 3, everything)
		if err != nil {
			requireOutage(t, err)
			failed++
			continue
		}
		read++
		for i, message := range messages {
			require.EqualValues(t, 3+i, message.Sequence)
		}
	}
	require.Positive(t, read)
	t.Logf("%d reads, %d failed", read, failed)
}

const users = `
listen: 127.0.0.1:%d
jetstream { store_dir: %q, sync_interval: always }
authorization { users = [
  {user: admin, password: secret}
  {user: blind, password: secret, permissions: {publish = ["$JS.API.STREAM.INFO.ORDERS"], subscribe = ["_INBOX.>", "outboxie.ORDERS.stored"]}}
  {user: deaf, password: secret, permissions: {publish = ["$JS.API.>"], subscribe = ["outboxie.ORDERS.stored"]}}
  {user: mute, password: secret, permissions: {publish = ["$JS.API.>", "things.>", "outboxie.ORDERS.notices"], subscribe = [">"]}}
] }`

// TestDenied checks that a reader soon reports which right its user lacks. It also checks that a reader starts without the
// right to look for the durable consumer of an earlier version.
func TestDenied(t *testing.T) {
	port := infra.Port(t)
	infra.StartNATSProcess(t, fmt.Sprintf(users, port, filepath.Join(t.TempDir(), "nats")))
	as := func(user string, logger *slog.Logger) *nats.Conn {
		nc, err := jetstream.Connect(jetstream.Options{URL: fmt.Sprintf("nats://%s:secret@127.0.0.1:%d", user, port), Name: t.Name(), Logger: logger})
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	publisher, err := jetstream.NewPublisher(as("admin", silent), jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Logger: silent})
	require.NoError(t, err)
	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)

	log := &logged{}
	blind := newReader(t, as("blind", silent), slog.New(slog.NewTextHandler(log, nil)))
	start := time.Now()
	_, err = blind.Read(t.Context(), 1, everything)
	require.Less(t, time.Since(start), 2*time.Second)
	require.ErrorIs(t, err, inbox.ErrStreamUnreadable)
	require.ErrorContains(t, err, "may not publish to $JS.API.DIRECT.GET.ORDERS")
	_, err = blind.State(t.Context())
	require.NoError(t, err)
	for range 2 {
		_, found, err := blind.LegacyConsumer(t.Context())
		require.NoError(t, err)
		require.False(t, found)
	}
	require.Equal(t, 1, log.lines("CONSUMER.INFO.ORDERS."+subscribe))

	_, err = newReader(t, as("deaf", silent), silent).Read(t.Context(), 1, everything)
	require.ErrorIs(t, err, inbox.ErrStreamUnreadable)
	require.ErrorContains(t, err, "may not subscribe to the subjects of its answers")

	denials := &logged{}
	mute := as("mute", slog.New(slog.NewTextHandler(denials, nil)))
	unheard, err := jetstream.NewPublisher(mute, jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Logger: silent})
	require.NoError(t, err)
	info, err := unheard.Open(t.Context(), 0)
	require.NoError(t, err)
	before := mute.Stats().OutMsgs
	_, err = unheard.Publish(t.Context(), info.LastSequence, relaytest.NewEntries(0, 20))
	require.NoError(t, err)
	for i := range 10 {
		_, err = unheard.Publish(t.Context(), uint64(20+i), relaytest.NewEntries(20, 1)) //nolint:gosec // not negative
		require.NoError(t, err)
	}
	require.LessOrEqual(t, mute.Stats().OutMsgs-before, uint64(30+2), "no notification is sent while the broker denies them")
	require.Equal(t, 1, denials.lines("outboxie.ORDERS.stored"))
}

// TestRestoredStream checks a stream that is restored from an old copy and then gets other messages. The new messages have the
// sequences of the lost ones, and the stream looks the same. Only the stored times differ: those of the remaining messages are
// unchanged.
func TestRestoredStream(t *testing.T) {
	store, old := filepath.Join(t.TempDir(), "nats"), filepath.Join(t.TempDir(), "copy")
	server := infra.NATS(t, func(o *embedded.NATSOptions) { o.StoreDir = store })
	b := &broker{t: t, server: server}
	t.Cleanup(func() {
		for _, nc := range b.conns {
			nc.Close()
		}
	})
	r := &reading{broker: b, publisher: b.opened()}
	reader := b.reader(t)
	restart := func(while func()) {
		t.Helper()
		server.Stop()
		while()
		server.Start()
		b.settled(t)
		_, err := r.publisher.Open(t.Context(), 0)
		require.NoError(t, err)
	}
	read := func() (inbox.StreamState, []inbox.Message) {
		t.Helper()
		state, err := reader.State(t.Context())
		require.NoError(t, err)
		messages, err := reader.Read(t.Context(), 1, everything)
		require.NoError(t, err)
		return state, messages
	}
	r.Append(t, relaytest.NewEntries(0, 3)...)
	restart(func() { require.NoError(t, os.CopyFS(old, os.DirFS(store))) })
	r.Append(t, relaytest.NewEntries(3, 2)...)
	state, before := read()
	restart(func() {
		require.NoError(t, os.RemoveAll(store))
		require.NoError(t, os.CopyFS(store, os.DirFS(old)))
	})
	shorter, kept := read()
	require.Equal(t, inbox.StreamState{Created: state.Created, First: 1, Last: 3}, shorter)
	require.Equal(t, before[:3], kept)
	r.tail = 3
	r.Append(t, relaytest.NewEntries(3, 2)...)
	again, after := read()
	require.Equal(t, state, again)
	require.Equal(t, before[:3], after[:3])
	for i := 3; i < 5; i++ {
		require.False(t, before[i].StoredAt.Equal(after[i].StoredAt))
	}
}
