package codec_test

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

var canonical = regexp.MustCompile(`\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z`)

// reader reads a JSON object by the contract alone, without the codec. bad is true after the first member that breaks the contract.
type reader struct {
	members map[string]any
	bad     bool
}

func (r *reader) text(name string) string {
	text, ok := r.members[name].(string)
	r.bad = r.bad || !ok
	return text
}

// maybe reads a note. It returns an empty note if the member is absent or null.
func (r *reader) maybe(name string) value.Note {
	if r.members[name] == nil {
		return ""
	}
	return value.Note(r.text(name))
}

func (r *reader) id(name string) string {
	id := strings.ToLower(r.text(name))
	r.bad = r.bad || !canonical.MatchString(id)
	return id
}

// time reads a time. It returns the zero time if the member is absent or null.
func (r *reader) time(name string) time.Time {
	if r.members[name] == nil {
		return time.Time{}
	}
	var at time.Time
	if at.UnmarshalText([]byte(r.text(name))) != nil || at.UTC().Year() < 0 || at.UTC().Year() > 9999 {
		r.bad = true
	}
	return at.UTC()
}

// said returns the event of a kind and a payload, or nil if they are not a valid event.
func said(kind string, payload []byte) order.Event {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var r reader
	if decoder.Decode(&r.members) != nil {
		return nil
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil
	}
	number, _ := r.members["version"].(json.Number)
	version, err := strconv.ParseInt(number.String(), 10, 64)
	r.bad = err != nil || version < 1
	currency, err := value.ParseCurrency(r.text("currency"))
	r.bad = r.bad || err != nil
	amount, err := value.ParseMoney(r.text("amount"), currency)
	r.bad = r.bad || err != nil
	created, paid, shipped, cancelled := r.time("created_at"), r.time("paid_at"), r.time("shipped_at"), r.time("cancelled_at")
	fact := order.EventData{Order: order.Snapshot{
		ID: order.ID(r.id("order_id")), CustomerID: value.CustomerID(r.id("customer_id")), Amount: amount,
		Status: order.Status(r.text("status")), Version: version, CreatedAt: created,
		PaymentReference: r.maybe("payment_reference"), Carrier: r.maybe("carrier"), Tracking: r.maybe("tracking"),
		CancelReason: r.maybe("cancel_reason"),
	}}
	var event order.Event
	var status string
	switch kind {
	case "outboxie.order.created.v1":
		fact.At, status = created, "created"
		event = order.Created{EventData: fact}
	case "outboxie.order.paid.v1":
		fact.At, status = paid, "paid"
		event = order.Paid{EventData: fact}
	case "outboxie.order.shipped.v1":
		fact.At, status = shipped, "shipped"
		event = order.Shipped{EventData: fact}
	case "outboxie.order.cancelled.v1":
		fact.At, status = cancelled, "cancelled"
		event = order.Cancelled{EventData: fact}
	}
	if event == nil || r.bad || created.IsZero() || fact.At.IsZero() || string(fact.Order.Status) != status {
		return nil
	}
	return event
}

// FuzzDecode checks Decode with any input. If the input is a valid event, Decode returns it, and the event is the same after it is written
// and read again. If not, Decode fails with ErrUnreadable.
func FuzzDecode(f *testing.F) {
	for _, kind := range []string{orders.TypeCreated, orders.TypePaid, orders.TypeShipped, orders.TypeCancelled, "other"} {
		f.Add(kind, []byte(strings.ReplaceAll(paidBody, "paid", strings.Split(kind+"..", ".")[2])))
	}
	for _, change := range [][2]string{
		{"", ""},
		{`"amount"`, `"AMOUNT"`},
		{`"status":"paid"`, `"status":"paid","Status":"shipped"`},
		{`"version":2`, `"version":2,"version":3`},
		{`"version":2`, `"version":2e0`},
		{`"version":2`, `"version":9223372036854775808`},
		{`"100.50"`, `"1.005e2"`},
		{`"100.50"`, `null`},
		{"550e", "550E"},
		{"10:00:00+02:00", `10:00:00\u002b02:00`},
		{"2026-11-24T10:00:00+02:00", "0000-01-01T00:00:00+00:01"},
		{"2026-11-23T13:15:16Z", "9999-12-31T23:59:59-00:01"},
		{"2026-11-23T13:15:16Z", "2026-11-23T13:15:16.1234567891Z"},
		{"paid_at", "shipped_at"},
		{`"paid_at"`, `"shipped_at":null,"paid_at"`},
		{`"paid_at"`, `"payment_reference":"\u0000\"\ud800","carrier":null,"tracking":"","paid_at"`},
		{`"paid_at"`, `"cancel_reason":7,"paid_at"`},
		{`"paid_at"`, `"shipped_at":"soon","paid_at"`},
		{"{", "[{"},
		{"}", "} null"},
	} {
		f.Add(orders.TypePaid, []byte(strings.Replace(paidBody, change[0], change[1], 1)))
	}
	f.Add(orders.TypePaid, []byte(nil))
	f.Add(orders.TypePaid, []byte("null"))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		event, err := fixed().Decode(outbox.Message{ID: eventID, Type: kind, Payload: payload})
		want := said(kind, payload)
		if want == nil {
			require.ErrorIs(t, err, inbox.ErrUnreadable, "it was read as %+v", event)
			require.Nil(t, event)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, event)

		message, err := fixed().Encode(event, order.Anyone())
		require.NoError(t, err)
		require.NoError(t, message.Validate())
		require.Equal(t, kind, message.Type)
		require.Equal(t, want, said(message.Type, message.Payload), "it was written as %s", message.Payload)
		again, err := fixed().Decode(message)
		require.NoError(t, err)
		require.Equal(t, want, again)
	})
}
