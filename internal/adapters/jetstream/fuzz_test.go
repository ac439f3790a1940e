package jetstream

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// wire is a broker that only receives. It keeps each message byte for byte.
type wire struct {
	nc       *nats.Conn
	received chan [2][]byte // headers and payload
}

func newWire(f *testing.F) *wire {
	f.Helper()
	w := &wire{received: make(chan [2][]byte, 1)}
	nc, err := nats.Connect("nats://wire", nats.SetCustomDialer(w), nats.NoReconnect())
	require.NoError(f, err)
	f.Cleanup(nc.Close)
	w.nc = nc
	return w
}

// Dial connects the client to the wire.
func (w *wire) Dial(string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		_, err := fmt.Fprintf(server, "INFO {\"headers\":true,\"max_payload\":%d}\r\n", 1<<20)
		for read := bufio.NewReader(server); err == nil; {
			var line string
			line, err = read.ReadString('\n')
			words := strings.Fields(line)
			switch {
			case err != nil:
			case words[0] == "PING":
				_, err = io.WriteString(server, "PONG\r\n")
			case words[0] == "HPUB":
				headers, _ := strconv.Atoi(words[len(words)-2])
				total, _ := strconv.Atoi(words[len(words)-1])
				message := make([]byte, total+len("\r\n"))
				_, err = io.ReadFull(read, message)
				w.received <- [2][]byte{message[:headers], message[headers:total]}
			}
		}
	}()
	return client, nil
}

// written parses the headers that the fuzzer makes, one on each line.
func written(lines string) map[string]string {
	var headers map[string]string
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, found := strings.Cut(line, ":"); found {
			if headers == nil {
				headers = make(map[string]string)
			}
			headers[name] = value
		}
	}
	return headers
}

// send publishes message and returns what the broker receives.
func (w *wire) send(t *testing.T, message *nats.Msg) (header nats.Header, size int, payload []byte) {
	t.Helper()
	require.NoError(t, w.nc.PublishMsg(message))
	sent := <-w.received
	header, err := nats.DecodeHeadersMsg(sent[0])
	require.NoError(t, err)
	return header, len(sent[0]), sent[1]
}

// FuzzEncode checks the messages of all entries that the publisher does not refuse, published or redriven. Their headers have
// the computed size. A subscriber reads the same entry, and the relay reads the progress again. Only blanks around a header's
// value get lost.
func FuzzEncode(f *testing.F) {
	at := time.Date(2026, 11, 24, 8, 0, 0, 123456000, time.UTC).UnixMicro()
	for _, headers := range []string{
		"", "X-a:1", "X-a:1\nx-A:2\nX-b:", "tenant: a b ", "traceparent:00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"Nats-Msg-Id:1", "CE-id:1", "Outbox-Position:7", "Status:503", "X(y):1", "ü:1", "X:ü", "X:\u2028", "X:\x00", "X:" + strings.Repeat("x", 70000),
	} {
		f.Add(int64(1), at, int64(1), "01934567-89ab-7def-8123-456789abcdef", "order.v1", "things.happened", "thing", "1", headers, []byte(`{"a": 1}`), int64(-1), "")
	}
	for _, text := range []string{`a b`, `"100%"`, "%41", "ü\n", "a\r\nNats-Msg-Id: 1", "日本", "\x7f", "+", " ", "\u0085"} {
		f.Add(int64(math.MaxInt64), int64(0), int64(math.MaxInt64), text, text, "things."+text, text, text, "", []byte(" null\n"), int64(0), text+"/"+text)
	}
	for _, subject := range []string{"orders", "things.", ".", "things.*", "things.>", "things.a*", "things." + strings.Repeat("x", 3000)} {
		f.Add(int64(2), at, int64(2), "1", "2", subject, "3", "4", "", []byte(`"x"`), int64(math.MaxInt64), "")
	}
	w := newWire(f)
	f.Fuzz(func(t *testing.T, position, micros, version int64, id, kind, subject, aggregate, key, headers string, payload []byte, place int64, placeID string) {
		entry := outbox.Entry{
			Position: outbox.Position(max(1, position)), RecordedAt: time.UnixMicro(max(0, micros%253402300800000000)).UTC(),
			Message: outbox.Message{
				ID: id, Type: kind, Subject: subject, Key: outbox.Key{Type: aggregate, ID: key}, Version: version,
				Headers: written(headers), Payload: payload,
			},
		}
		if entry.Validate() != nil {
			return
		}
		want := relay.MessageMeta{Own: true, Progress: entry.Progress(), Event: entry.Position}
		var redrivenAt *outbox.Progress
		if place >= 0 {
			redrivenAt = &outbox.Progress{Position: outbox.Position(place), EventID: placeID}
			want.Progress, want.Redriven = *redrivenAt, true
		}
		message, size := newHeaders("/outboxie/orders").encode(entry, redrivenAt)
		if reason := refusal(entry, size, limits{stream: "ORDERS", subjects: []string{">"}, size: 1 << 20}); reason != "" {
			if strings.Contains(reason, "a name that NATS does not send") {
				require.Error(t, w.nc.PublishMsg(message))
			}
			return
		}
		blanks := 0
		for name, value := range entry.Headers {
			entry.Headers[name] = strings.Trim(value, " ")
			blanks += len(value) - len(entry.Headers[name])
		}

		header, sent, data := w.send(t, message)
		require.Equal(t, size-blanks, sent)
		require.Equal(t, payload, data)
		read, err := decode(subject, header, data)
		require.NoError(t, err)
		require.Equal(t, entry, read)
		require.Equal(t, want, metaOf(header))
	})
}

// FuzzEncodeNotice checks control messages with any content. Their size is computed exactly, and their body is JSON. The relay
// reads the same values again. A long reason is shortened to what fits. No subscriber reads a control message as an event.
func FuzzEncodeNotice(f *testing.F) {
	for _, reason := range []string{"", "too large", "100% \"sure\"", "ü\r\nNats-Msg-Id: 1", "\x00\xff", strings.Repeat("日", 400), "🎉", "\u2028</script>"} {
		f.Add(int64(7), "01934567-89ab-7def-8123-456789abcdef", uint64(1), reason, 500)
		f.Add(int64(math.MaxInt64), "a/b %", uint64(math.MaxUint64), reason, 4)
		f.Add(int64(0), "", uint64(1), reason, 5)
	}
	w := newWire(f)
	f.Fuzz(func(t *testing.T, position int64, id string, sequence uint64, reason string, kept int) {
		kept = utf8.UTFMax + max(0, kept)%(maxReason-utf8.UTFMax+1)
		control := relay.ControlMessage{Progress: outbox.Progress{Position: outbox.Position(max(0, position)), EventID: id}, Parked: reason, LastOwnSequence: sequence / 2}
		message, size := encodeControl("ORDERS", sequence, control, kept)
		if len(id) > maxHeaders/4 {
			return
		}
		header, sent, payload := w.send(t, message)
		require.Equal(t, size, sent+len(payload))
		meta := metaOf(header)
		require.Equal(t, relay.MessageMeta{Own: true, Progress: control.Progress, Parked: meta.Parked, LastOwnSequence: control.LastOwnSequence}, meta)
		require.Equal(t, reason == "", meta.Parked == "")
		require.LessOrEqual(t, len(meta.Parked), kept)
		require.True(t, utf8.ValidString(meta.Parked))
		whole := strings.ToValidUTF8(reason, "\uFFFD")
		require.True(t, strings.HasPrefix(whole, meta.Parked))
		require.True(t, meta.Parked == whole || len(meta.Parked) > kept-utf8.UTFMax, "more could be kept")
		var body struct{ Reason string }
		require.NoError(t, json.Unmarshal(payload, &body))
		require.Equal(t, meta.Parked, body.Reason)
		_, err := decode(message.Subject, header, payload)
		require.ErrorIs(t, err, inbox.ErrUnreadable)
	})
}

var escapes = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

// unescaped decodes the text of a header, and reports whether the text is well formed.
func unescaped(value string) (string, bool) {
	if strings.Contains(escapes.ReplaceAllString(value, ""), "%") {
		return "", false
	}
	text := escapes.ReplaceAllStringFunc(value, func(escape string) string {
		code, _ := strconv.ParseUint(escape[1:], 16, 8)
		return string([]byte{byte(code)})
	})
	return text, true
}

// positive returns the number in a header, if it is from 1 to 2^63-1, and otherwise 0.
func positive(value string) int64 {
	if number, ok := new(big.Int).SetString(value, 10); ok && number.Sign() > 0 && number.IsInt64() {
		return number.Int64()
	}
	return 0
}

var digits = regexp.MustCompile(`^[0-9]+$`)

// stamped returns what the relay must read from a message. position is the number in Outbox-Position, or 0 if there is no valid
// one.
func stamped(header nats.Header, position int64) relay.MessageMeta {
	_, hasPosition := header["Outbox-Position"]
	text, hasProgress := header["Outbox-Progress"]
	id, readable := unescaped(header.Get("ce-id"))
	event := outbox.Position(position)
	switch {
	case hasPosition && event == 0:
		return relay.MessageMeta{}
	case !hasProgress && event > 0 && readable && id != "":
		return relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: event, EventID: id}, Event: event}
	case !hasProgress:
		return relay.MessageMeta{}
	}
	place, of, complete := strings.Cut(text[0], "/")
	number, numeric := new(big.Int).SetString(place, 10)
	of, known := unescaped(of)
	reason, told := unescaped(header.Get("Outbox-Parked"))
	if !complete || !numeric || number.Sign() < 0 || !number.IsInt64() || !known || !told {
		return relay.MessageMeta{}
	}
	meta := relay.MessageMeta{
		Own: true, Progress: outbox.Progress{Position: outbox.Position(number.Int64()), EventID: of}, Event: event, Redriven: event > 0,
	}
	if event == 0 {
		meta.Parked, meta.LastOwnSequence = reason, math.MaxUint64
		if kept, ok := new(big.Int).SetString(header.Get("Outbox-Kept"), 10); ok && digits.MatchString(header.Get("Outbox-Kept")) && kept.IsUint64() {
			meta.LastOwnSequence = kept.Uint64()
		}
	}
	return meta
}

// eventHeaders are the headers of an event. decodeChanges are replacements in eventHeaders, from which FuzzDecode begins.
const eventHeaders = "ce-id: 1\r\nce-type: a%20b\r\nce-subject: 7\r\nce-time: 2026-11-24T09:00:00+01:00\r\n" +
	"Outbox-Aggregate-Type: order\r\nOutbox-Aggregate-Version: 1\r\nOutbox-Position: 5\r\n"

var decodeChanges = [][2]string{
	{"", ""},
	{"ce-id: 1", "ce-id: %31"},
	{"ce-id: 1", "ce-id: %zz"},
	{"ce-id: 1", "ce-id:"},
	{"ce-id: 1", "ce-id: %"},
	{"ce-id", "Ce-Id"},
	{"ce-id: 1", "ce-id: 1\r\nce-id: 2"},
	{"Position: 5", "Position: 0"},
	{"Position: 5", "Position: -5"},
	{"Position: 5", "Position: 9223372036854775808"},
	{"Position: 5", "Position: 0x5"},
	{"Position: 5\r\n", "Progress: 5/1\r\n"},
	{"Position: 5", "Position: 5\r\nOutbox-Progress: 3/2"},
	{"Position: 5", "Position: 5\r\nOutbox-Progress: 3"},
	{"Position: 5", "Position: 5\r\nOutbox-Progress: 3/%zz"},
	{"Position: 5", "Position: \r\nOutbox-Progress: 3/2"},
	{"Position: 5", "Position: 5\r\nOutbox-Progress: 3/2\r\nOutbox-Parked: why"},
	{"Outbox-Position: 5", "Outbox-Progress: -1/2"},
	{"Outbox-Position: 5", "Outbox-Progress: 0/"},
	{"Outbox-Position: 5", "Outbox-Progress: 0/\r\nOutbox-Kept: 7"},
	{"Outbox-Position: 5", "Outbox-Progress: 0/\r\nOutbox-Kept: -7"},
	{"Outbox-Position: 5", "Outbox-Progress: 3/2/1\r\nOutbox-Parked: too%20large"},
	{"Outbox-Position: 5", "Outbox-Progress: 3/2\r\nOutbox-Parked: 100%"},
	{"Version: 1", "Version: 1.0"},
	{"+01:00", ""},
	{"2026", "-2026"},
	{"ce-id", "X-a: \xff\r\nce-id"},
	{"ce-id", ":1\r\nX: 1\r\nce-id"},
}

// FuzzDecode checks messages with any headers. A subscriber reads the values of the headers, or gets ErrUnreadable if one is
// missing or not valid. The relay takes a message for its own only if its position and its event's id can be read.
func FuzzDecode(f *testing.F) {
	for _, change := range decodeChanges {
		f.Add(strings.Replace(eventHeaders, change[0], change[1], 1), []byte(`{}`))
	}
	f.Add("", []byte(nil))
	f.Fuzz(func(t *testing.T, lines string, payload []byte) {
		header, err := nats.DecodeHeadersMsg([]byte("NATS/1.0\r\n" + lines + "\r\n"))
		if err != nil {
			return
		}
		position, version := positive(header.Get("Outbox-Position")), positive(header.Get("Outbox-Aggregate-Version"))
		id, readable := unescaped(header.Get("ce-id"))
		require.Equal(t, stamped(header, position), metaOf(header))

		kind, typed := unescaped(header.Get("ce-type"))
		key, keyed := unescaped(header.Get("ce-subject"))
		aggregate, named := unescaped(header.Get("Outbox-Aggregate-Type"))
		at, err := time.Parse(time.RFC3339Nano, header.Get("ce-time"))
		entry, unreadable := decode("things.happened", header, payload)
		if position == 0 || version == 0 || err != nil || !readable || !typed || !keyed || !named ||
			id == "" || kind == "" || key == "" || aggregate == "" {
			require.ErrorIs(t, unreadable, inbox.ErrUnreadable, "it was read as %+v", entry)
			require.Zero(t, entry)
			return
		}
		require.NoError(t, unreadable)
		require.True(t, at.Equal(entry.RecordedAt))
		for name, value := range entry.Headers {
			require.Equal(t, header.Get(name), value)
			require.False(t, outbox.ReservedHeader(name))
		}
		entry.RecordedAt, entry.Headers = time.Time{}, nil
		require.Equal(t, outbox.Entry{Position: outbox.Position(position), Message: outbox.Message{
			ID: id, Type: kind, Subject: "things.happened", Key: outbox.Key{Type: aggregate, ID: key}, Version: version, Payload: payload,
		}}, entry)
	})
}
