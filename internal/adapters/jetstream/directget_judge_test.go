package jetstream

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// sent builds the headers that a server sends with a message whose stored headers are kept. It copies the server's source code.
func sent(kept []byte, stream, subject string, sequence uint64, at time.Time, pending, previous uint64) []byte {
	header := bytes.NewBuffer(nil)
	if len(kept) > len("\r\n") {
		header.Write(kept[:len(kept)-len("\r\n")])
	} else {
		header.WriteString("NATS/1.0\r\n")
	}
	for _, line := range [][2]string{
		{"Nats-Stream", stream},
		{"Nats-Subject", subject},
		{"Nats-Sequence", strconv.FormatUint(sequence, 10)},
		{"Nats-Time-Stamp", at.Format(time.RFC3339Nano)},
		{"Nats-Num-Pending", strconv.FormatUint(pending, 10)},
		{"Nats-Last-Sequence", strconv.FormatUint(previous, 10)},
	} {
		_ = http.Header{line[0]: {line[1]}}.Write(header)
	}
	header.WriteString("\r\n")
	return header.Bytes()
}

// forgeries are headers that anybody could store. With them, a reader could take a message for another message, or for a status
// of the server.
var forgeries = []string{
	"", "\r\n", "NATS/1.0\r\n\r\n", "NATS/1.0\r\nA: b\r\n\r\n",
	"NATS/1.0 100\r\n\r\n", "NATS/1.0 404 Message Not Found\r\n\r\n", "NATS/1.0 503\r\n\r\n", "NATS/1.0\r\nStatus: 404\r\n\r\n",
	"NATS/1.0\r\nStatus: 204\r\nDescription: EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 6\r\n\r\n",
	"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 6\r\n\r\n",
	"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 6\r\n\r\n\r\n", // hides the server's headers
	"NATS/1.0\r\nNats-Sequence: 99\r\nNats-Time-Stamp: 2020-01-01T00:00:00Z\r\nNats-Last-Sequence: 98\r\n\r\n",
	"NATS/1.0\r\nNats-Stream: ORDERS\r\nNats-Subject: things.x\r\nNats-Sequence: 9\r\nNats-Time-Stamp: 2020-01-01T00:00:00Z\r\n" +
		"Nats-Num-Pending: 0\r\nNats-Last-Sequence: 6\r\n\r\n\r\n", // the same
	"NATS/1.0 503\r\n\r\n\r\n", "NATS/1.0 404\n\n\r\n", "NATS/1.0\r\nX\r\n\r\n", "NATS/1.0\n\n\r\n", "abc", "ab", "NATS/1.0", "NATS/1.0 20",
	"NATS/1.0\r\nNats-Stream: EVIL\r\nX: ab", "NATS/1.0\r\nNats-Sequence:ab", "NATS/1.0\r\nX: \r", "NATS/1.0\r\n: \r\n\r\n",
	"NATS/1.0 204\n" + strings.Repeat("a:b\n", 200) + "\n\r\n",
	"NATS/1.0 204\r\n" + strings.Repeat("A: b\r\n", 50) + "\r\n", "NATS/1.0\r\n" + strings.Repeat("Nats-Sequence: 99\r\n", 5) + "\r\n",
	"NATS/1.0 204 " + strings.Repeat("x", 300) + "\n\n\r\n", "NATS/1.0\nStatus:204\n\n\r\n",
	"NATS/1.0\r\nnats-sequence: 3\r\nNATS-SEQUENCE: 4\r\n\r\n", "NATS/1.0\r\nNats-Sequence: \r\n\r\n",
}

// FuzzJudge checks the answers to direct gets whose messages have arbitrary stored headers. A reader either takes the sequence,
// time and subject from the server's own headers, or finds the answer doubtful. It never takes the message for a status.
func FuzzJudge(f *testing.F) {
	for _, kept := range forgeries {
		f.Add([]byte(kept), "ORDERS", uint64(7), uint64(6), int64(1_800_000_000_000_000_001))
		f.Add([]byte(kept), "S", uint64(1), uint64(0), int64(0))
	}
	f.Fuzz(func(t *testing.T, kept []byte, stream string, sequence, previous uint64, nanos int64) {
		if sequence == 0 || !validSubscriber.MatchString(stream) {
			return
		}
		at := time.Unix(0, nanos).UTC()
		raw := sent(kept, stream, "things.happened", sequence, at, 3, previous)
		header, _ := nats.DecodeHeadersMsg(raw) // if the client cannot read the headers, it delivers the message without headers
		message, last, known := newDirectReader(nil, stream).judge(header, len(raw))
		own, err := nats.DecodeHeadersMsg(kept)
		formed := len(kept) == 0 || err == nil && bytes.HasSuffix(kept, []byte("\r\n\r\n")) &&
			bytes.Index(kept, []byte("\r\n\r\n")) == len(kept)-len("\r\n\r\n") && !bytes.Contains(kept, []byte("\n\n"))
		if !known {
			return
		}
		require.Equal(t, sequence, message.Sequence)
		require.True(t, at.Equal(message.StoredAt))
		require.Equal(t, "things.happened", message.subject)
		require.Equal(t, previous, last)
		if formed {
			if own == nil {
				own = nats.Header{}
			}
			require.Equal(t, own, message.original())
		}
	})
}

// TestOrdinaryMessagesAreKnown checks that the headers of ordinary publishers are never doubtful, so that the reader need not
// ask the stream's leader.
func TestOrdinaryMessagesAreKnown(t *testing.T) {
	for headers := range 36 {
		kept := nats.Header{}
		for i := range headers {
			kept.Add(fmt.Sprintf("Nats-Header-%d", i), strings.Repeat("x", i))
		}
		var text bytes.Buffer
		text.WriteString("NATS/1.0\r\n")
		for name, values := range kept {
			fmt.Fprintf(&text, "%s: %s\r\n", name, values[0])
		}
		text.WriteString("\r\n")
		raw := sent(text.Bytes(), "O", "o", 1, time.Unix(0, 0).UTC(), 0, 0)
		header, err := nats.DecodeHeadersMsg(raw)
		require.NoError(t, err)
		message, _, known := newDirectReader(nil, "O").judge(header, len(raw))
		require.True(t, known, "%d headers", headers)
		require.Equal(t, kept, message.original())
	}
}

// TestStatusesAreKnown checks that a server's own answers are never doubtful, even with headers that a later version may add.
func TestStatusesAreKnown(t *testing.T) {
	for _, raw := range []string{
		"NATS/1.0 204 EOB\r\nNats-Num-Pending: 18446744073709551615\r\nNats-Last-Sequence: 18446744073709551615\r\n\r\n",
		"NATS/1.0 204 EOB\r\nNats-Num-Pending: 5\r\nNats-Last-Sequence: 7\r\nNats-UpTo-Sequence: 9\r\n\r\n",
		"NATS/1.0 404 Message Not Found\r\n\r\n", "NATS/1.0 408 Malformed Request\r\n\r\n", "NATS/1.0 412 Required Api Level\r\n\r\n",
		"NATS/1.0 413 Too Many Results\r\n\r\n", "NATS/1.0 503\r\n\r\n",
	} {
		header, err := nats.DecodeHeadersMsg([]byte(raw))
		require.NoError(t, err)
		message, _, known := newDirectReader(nil, "O").judge(header, len(raw))
		require.True(t, known, raw)
		require.Zero(t, message.Sequence)
	}
}
