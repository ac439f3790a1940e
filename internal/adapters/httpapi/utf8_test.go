package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
)

const (
	halfPair = "half of a surrogate pair stands in a string of the body: "
	notUTF8  = "the body is not UTF-8: its byte "
)

// TestWhatIsNoTextIsRefused checks that the server refuses bodies that are not text. A decoder would not see the difference between some
// of these bodies.
func TestWhatIsNoTextIsRefused(t *testing.T) {
	s := start(t)
	s.place("1")
	const pay = "/orders/" + firstID + "/pay"
	for sent, detail := range map[string]string{
		`{"reference":"a\ud800b"}`:                  halfPair + `\ud800 at byte 15`,
		`{"reference":"a\uDFFFb"}`:                  halfPair + `\uDFFF at byte 15`,
		`{"reference":"\ud83d\u0041"}`:              halfPair + `\ud83d at byte 14`,
		`{"reference":"\ud83d\ud83d\ude00"}`:        halfPair + `\ud83d at byte 14`,
		`{"reference":"\ud83d\n"}`:                  halfPair + `\ud83d at byte 14`,
		`{"reference":"\ud83d"}`:                    halfPair + `\ud83d at byte 14`,
		`{"reference":"\\\ud83d\\"}`:                halfPair + `\ud83d at byte 16`,
		"{\"reference\":\"a\xffb\"}":                notUTF8 + "15 is 0xff",
		"{\"reference\":\"\xed\xa0\x80\"}":          notUTF8 + "14 is 0xed", // a surrogate in UTF-8
		"{\"reference\":\"\xc0\xaf\"}":              notUTF8 + "14 is 0xc0",
		"{\"reference\":\"\xe2\x82\"}":              notUTF8 + "14 is 0xe2",
		`{"reference":"x","\ud800":[{"\udfff":0}]}`: halfPair + `\ud800 at byte 18`,
		"{\"\xff\":0}":                              notUTF8 + "2 is 0xff",
		`[[{"a":["\ud800"]}]]`:                      halfPair + `\ud800 at byte 9`,
	} {
		for _, path := range []string{pay, "/orders/" + firstID + "/ship", "/orders/" + firstID + "/cancel", "/orders"} {
			requireProblem(t, s.send("POST", path, sent), 400, "malformed_body", detail, "")
		}
	}
	require.Empty(t, s.shop.guards, "nothing reached the service")

	for _, reference := range []string{`a\ufffdb`, `\ud83d\ude00`, `\\ud800`, `\\\\ud800\\`, "\ufffd", "\U0001f600", `\ud800\udc00\ud800\udc00`} {
		s.shop.orders = map[order.ID]*order.Order{}
		s.place("1")
		got := s.send("POST", pay, `{"reference":"`+reference+`"}`)
		require.Equal(t, http.StatusOK, got.status, got.body)
	}
}

// TestStringsAreReadAsTheyWereSent checks that a body is read exactly as it was sent, or refused. The test makes strings of pieces, and
// knows the meaning of each piece.
func TestStringsAreReadAsTheyWereSent(t *testing.T) {
	s := start(t)
	rapid.Check(t, func(t *rapid.T) {
		var sent, means strings.Builder
		whole, high := true, false // high: the piece before was the first half of a surrogate pair
		for range rapid.IntRange(1, 12).Draw(t, "pieces") {
			low := false
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				r := rapid.RuneFrom([]rune{'a', 'é', '\ufffd', '\U0001f600', 'u', 'd', '8'}).Draw(t, "rune")
				sent.WriteRune(r)
				means.WriteRune(r)
			case 1:
				sent.WriteString(`\\`)
				means.WriteString(`\`)
			case 2:
				sent.WriteByte(rapid.SampledFrom([]byte{0xff, 0xc0, 0xed, 0xe2}).Draw(t, "byte")) // never a character, in any order
				whole = false
			case 3:
				whole = whole && !high
				fmt.Fprintf(&sent, `\u%04x`, rapid.IntRange(0xd800, 0xdbff).Draw(t, "high"))
				high = true
				continue
			case 4:
				fmt.Fprintf(&sent, `\uDE%02X`, rapid.IntRange(0, 255).Draw(t, "low"))
				low = true
			case 5:
				sent.WriteString(`\u00e9`)
				means.WriteRune('é')
			}
			whole = whole && high == low
			if high && low {
				var r rune
				_, err := fmt.Sscanf(sent.String()[sent.Len()-12:], `\u%04x`, &r)
				require.NoError(t, err)
				var l rune
				_, err = fmt.Sscanf(sent.String()[sent.Len()-6:], `\u%04X`, &l)
				require.NoError(t, err)
				means.WriteRune((r-0xd800)<<10 + (l - 0xdc00) + 0x10000)
			}
			high = false
		}
		whole = whole && !high && utf8.ValidString(sent.String())
		s.shop.orders = map[order.ID]*order.Order{}
		s.place("1")
		got := s.send("POST", "/orders/"+firstID+"/pay", `{"reference":"`+sent.String()+`"}`)
		if !whole {
			require.Equal(t, http.StatusBadRequest, got.status, "%q", sent.String())
			require.Contains(t, got.body, `"code":"malformed_body"`)
			return
		}
		require.Equal(t, http.StatusOK, got.status, "%q: %s", sent.String(), got.body)
		require.Equal(t, means.String(), string(s.shop.orders[firstID].Snapshot().PaymentReference))
	})
}

func TestParametersThatAreNotUTF8AreRefused(t *testing.T) {
	s := start(t)
	for query, name := range map[string]string{"status=%ff": "status", "status=pa%edd": "status", "cursor=%c0%af": "cursor", "a%ff=1": "a"} {
		requireProblem(t, s.send("GET", "/orders?"+query, ""), 400, "invalid_request", wrongFields, parameter(name, "is not UTF-8"))
	}
	for _, header := range []string{"Idempotency-Key", "If-Match"} {
		got := s.sendLines("/orders/"+firstID+"/pay", "", header, "\xff")
		require.Equal(t, http.StatusBadRequest, got.status, got.body)
		require.Contains(t, got.body, `"parameter":"`+header+`"`)
	}
}

// TestSpansAreUTF8 checks that the texts of spans are UTF-8. Otherwise the exporter drops the span and all spans that are sent with it.
func TestSpansAreUTF8(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	s := start(t, func(o *httpapi.Options) {
		o.AllowedHosts = []string{"*"}
		o.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	})
	conn := dial(t, s.api.Server)
	_, err := io.WriteString(conn, "GET http://%ff.example/orders/%ff?x=%ff HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\r\nX-Forwarded-For: \xfe\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answer), "400 Bad Request")
	require.Len(t, spans.Ended(), 1)
	recorded := map[attribute.Key]string{}
	for _, attr := range spans.Ended()[0].Attributes() {
		recorded[attr.Key] = attr.Value.String()
		require.True(t, utf8.ValidString(recorded[attr.Key]), "%s is %q", attr.Key, recorded[attr.Key])
	}
	require.Equal(t, "/orders/\ufffd", recorded["url.path"])
	require.Equal(t, "\ufffd", recorded["user_agent.original"])
}
