package jetstream_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
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

// TestSubscriberIDs checks which names are refused as subscriber ids.
func TestSubscriberIDs(t *testing.T) {
	for _, id := range []string{"", "a b", "a.b", "a*", "a>", "ü", strings.Repeat("x", 65)} {
		_, err := jetstream.NewReader(nil, jetstream.ReaderOptions{Stream: stream, Subjects: subjects, Subscriber: id, Logger: silent})
		require.Equal(t, fault.Invalid, fault.KindOf(err), id)
	}
}

// TestUnreadableIDs checks that an unreadable message has the same id as in earlier versions, whose dead letters carry that id.
func TestUnreadableIDs(t *testing.T) {
	r := newReading(t)
	r.AppendForeign(t)
	message := &nats.Msg{Subject: "things.stray", Header: nats.Header{"A": {"1", "2"}, "Nats-Sequence": {"9"}}, Data: []byte("hello")}
	_, err := r.admin.PublishMsg(t.Context(), message)
	require.NoError(t, err)
	messages, err := r.reader(t).Read(t.Context(), 1, everything)
	require.NoError(t, err)
	require.Len(t, messages, 2)
	require.Equal(t, "unreadable-1-0bce6265fa39", messages[0].Event.ID)
	require.Equal(t, "unreadable-2-4354b650efb8", messages[1].Event.ID)
	require.Equal(t, map[string]string{"A": "1\n2", "Nats-Sequence": "9"}, messages[1].Event.Headers)
}

// TestReaderOfOtherSubjects checks a reader whose subjects are not the relay's. It returns every event of the relay, so no event is lost without a
// word. Somebody else's messages outside of its subjects are none of its events.
func TestReaderOfOtherSubjects(t *testing.T) {
	r := newReading(t)
	entries := relaytest.NewEntries(0, 1)
	r.Append(t, entries...)
	r.AppendForeign(t)
	reader, err := jetstream.NewReader(r.connect(), jetstream.ReaderOptions{
		Stream: stream, Subjects: "vouchers.>", Subscriber: subscribe, Logger: silent,
	})
	require.NoError(t, err)
	t.Cleanup(reader.Close)
	messages, err := reader.Read(t.Context(), 1, everything)
	require.NoError(t, err)
	require.Len(t, messages, 2)
	require.Equal(t, entries[0].ID, messages[0].Event.ID)
	require.Nil(t, messages[1].Event)
}

// TestPublisherNeedsSubjectsAndSource checks that a publisher without subjects or without a source is refused.
func TestPublisherNeedsSubjectsAndSource(t *testing.T) {
	for _, o := range []jetstream.PublisherOptions{{Stream: stream, Subjects: subjects}, {Stream: stream, Source: source}} {
		_, err := jetstream.NewPublisher(nil, o)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

// TestReaderOverRestarts checks that a reader reads and gets signals again after the broker is back.
func TestReaderOverRestarts(t *testing.T) {
	r := newReading(t)
	reader := r.reader(t)
	r.Append(t, relaytest.NewEntries(0, 1)...)
	r.Disconnect(t)
	_, err := reader.Read(t.Context(), 1, everything)
	requireOutage(t, err)
	_, err = reader.State(t.Context())
	requireOutage(t, err)
	_, _, err = reader.LegacyConsumer(t.Context())
	requireOutage(t, err)
	r.Reconnect(t)
	_, err = r.publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	select {
	case <-reader.Stored():
	default:
	}
	r.Append(t, relaytest.NewEntries(1, 1)...)
	select {
	case <-reader.Stored():
	case <-time.After(patience):
		require.Fail(t, "nothing was signaled after the reconnect")
	}
	messages, err := reader.Read(t.Context(), 1, everything)
	require.NoError(t, err)
	require.Len(t, messages, 2)
}

// TestReaderHearsItsOwnProcess checks that a reader that shares the publisher's connection is signaled.
func TestReaderHearsItsOwnProcess(t *testing.T) {
	b := newBroker(t)
	nc := b.connect()
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Logger: silent})
	require.NoError(t, err)
	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	reader := newReader(t, nc, silent)
	_, err = publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 20))
	require.NoError(t, err)
	select {
	case <-reader.Stored():
	case <-time.After(patience):
		require.Fail(t, "nothing was signaled")
	}
}

// TestOneNotificationPerAppend checks that the publisher sends one notification for each append that stored something, and otherwise none.
func TestOneNotificationPerAppend(t *testing.T) {
	r := newReading(t)
	notifications, err := r.connect().SubscribeSync("outboxie.ORDERS.stored")
	require.NoError(t, err)
	r.settled(t)
	r.Append(t, relaytest.NewEntries(0, 1)...)
	r.Append(t, relaytest.NewEntries(1, 2005)...)
	_, err = r.publisher.Publish(t.Context(), 5, relaytest.NewEntries(5, 1))
	require.ErrorContains(t, err, "does not end at sequence 5")
	_, err = r.publisher.Look(t.Context())
	require.NoError(t, err)
	for range 2 {
		_, err = notifications.NextMsg(patience)
		require.NoError(t, err)
	}
	_, err = notifications.NextMsg(100 * time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout)
	require.EqualValues(t, 2006, r.info().State.LastSeq, "notifications are not stored")
}

// logged keeps what a logger writes.
type logged struct{ infra.Buffer }

func (l *logged) lines(about string) int { return strings.Count(l.String(), about) }

// TestDirectGetsNotYet checks a stream without direct gets, as earlier versions made it. Each read fails, and the reader logs
// this once. The next leader allows direct gets.
func TestDirectGetsNotYet(t *testing.T) {
	r := newReading(t)
	r.Append(t, relaytest.NewEntries(0, 1)...)
	config := r.info().Config
	require.True(t, config.AllowDirect)
	config.AllowDirect = false
	_, err := r.admin.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	log := &logged{}
	reader := newReader(t, r.connect(), slog.New(slog.NewTextHandler(log, nil)))
	for range 3 {
		_, err = reader.Read(t.Context(), 1, everything)
		requireOutage(t, err)
		require.ErrorContains(t, err, "allow_direct")
	}
	require.Equal(t, 1, log.lines("direct gets"))
	_, err = reader.State(t.Context())
	require.NoError(t, err)
	_, err = r.publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	messages, err := reader.Read(t.Context(), 1, everything)
	require.NoError(t, err)
	require.Len(t, messages, 1)
}

// TestFormer checks what a reader reports about the durable consumer of an earlier version.
func TestFormer(t *testing.T) {
	r := newReading(t)
	reader := r.reader(t)
	r.Append(t, relaytest.NewEntries(0, 5)...)
	requireFormer := func(want inbox.LegacyConsumer) {
		t.Helper()
		require.Eventually(t, func() bool {
			former, found, err := reader.LegacyConsumer(t.Context())
			require.NoError(t, err)
			require.True(t, found)
			return former == want
		}, patience, 10*time.Millisecond)
	}
	consumer := r.former(t)
	requireFormer(inbox.LegacyConsumer{})
	require.NoError(t, take(t, consumer).DoubleAck(t.Context()))
	second := take(t, consumer)
	requireFormer(inbox.LegacyConsumer{Sequence: 1, Busy: true})
	require.NoError(t, second.DoubleAck(t.Context()))
	requireFormer(inbox.LegacyConsumer{Sequence: 2})
	for range 3 {
		require.NoError(t, take(t, consumer).DoubleAck(t.Context()))
	}
	ctx, stop := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, err := consumer.Next(natsjs.FetchContext(ctx))
		waits <- err
	}()
	requireFormer(inbox.LegacyConsumer{Sequence: 5, Busy: true})
	stop()
	require.Error(t, <-waits)
}

// TestForgedHeadersOnTheWire stores messages with forged headers, byte for byte, between events. Reads of every size return all
// messages in order, with the times that the stream's leader has, and reach the end.
func TestForgedHeadersOnTheWire(t *testing.T) {
	r := newReading(t)
	wire := rawConnection(t, r.server.URL)
	var events, position int
	stored := uint64(0)
	for i, header := range jetstream.Forgeries {
		for _, body := range []string{"", "x"} {
			if header != "" {
				wire.publish(t, header, body)
				stored++
				require.Eventually(t, func() bool { return r.info().State.LastSeq == stored }, patience, time.Millisecond)
			}
		}
		if i%3 == 0 {
			r.tail = stored
			r.Append(t, relaytest.NewEntries(0, 1)...)
			stored = r.tail
			events++
		}
	}
	last := stored
	require.Greater(t, last, uint64(50))
	reader := r.reader(t)
	for _, count := range []int{1, 2, 7, 1000} {
		var all []inbox.Message
		for next := uint64(1); next <= last; {
			messages, err := reader.Read(t.Context(), next, inbox.ReadLimit{Count: count, Bytes: 1 << 20})
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(messages), min(count, 2, int(last-next)+1)) //nolint:gosec // small
			all = append(all, messages...)
			next = all[len(all)-1].Sequence + 1
		}
		require.Len(t, all, int(last)) //nolint:gosec // small
		position = 0
		for i, message := range all {
			require.EqualValues(t, i+1, message.Sequence)
			truth := r.kept(message.Sequence)
			require.True(t, truth.Time.Equal(message.StoredAt))
			require.Equal(t, string(truth.Data), string(message.Event.Payload))
			require.Equal(t, truth.Subject, message.Event.Subject)
			if message.Event.Unreadable == nil {
				position++
			}
		}
		require.Equal(t, events, position)
	}
}

// kept is a message as the stream's leader has it. The client's own GetMsg is no help: it asks any server, adds headers of the
// server, and takes a stored status for an answer of the server.
type kept struct {
	Subject string
	Header  []byte `json:"hdrs"`
	Data    []byte
	Time    time.Time
}

// headers returns the headers as the client parses them.
func (k kept) headers(t *testing.T) nats.Header {
	t.Helper()
	header, err := nats.DecodeHeadersMsg(k.Header)
	require.NoError(t, err)
	return header
}

func (b *broker) kept(sequence uint64) kept {
	b.t.Helper()
	reply, err := b.conns[0].Request("$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"seq":%d}`, sequence), patience)
	require.NoError(b.t, err)
	var answer struct{ Message *kept }
	require.NoError(b.t, json.Unmarshal(reply.Data, &answer))
	require.NotNil(b.t, answer.Message)
	return *answer.Message
}

type rawWire struct {
	conn net.Conn
	said *bufio.Reader
}

func rawConnection(t *testing.T, server string) *rawWire {
	t.Helper()
	address, err := url.Parse(server)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", address.Host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	wire := &rawWire{conn: conn, said: bufio.NewReader(conn)}
	wire.send(t, "CONNECT {\"verbose\":true,\"headers\":true}\r\n")
	_, err = wire.said.ReadString('\n') // the server's INFO comes before its OK
	require.NoError(t, err)
	return wire
}

func (w *rawWire) send(t *testing.T, text string) {
	t.Helper()
	_, err := w.conn.Write([]byte(text))
	require.NoError(t, err)
	_, err = w.said.ReadString('\n')
	require.NoError(t, err)
}

// publish sends bytes as headers, valid or not, and waits until the server has accepted them.
func (w *rawWire) publish(t *testing.T, header, body string) {
	t.Helper()
	w.send(t, fmt.Sprintf("HPUB things.stray %d %d\r\n%s%s\r\n", len(header), len(header)+len(body), header, body))
}
