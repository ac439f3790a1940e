package codec_test

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/modules"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/test/contract"
)

const (
	eventID    = "01934567-89ab-7def-8123-456789abcdef"
	orderID    = "11111111-2222-4333-8444-555555555555"
	customerID = "550e8400-e29b-41d4-a716-446655440000"
)

func fixed() *codec.Codec { return codec.New(func() string { return eventID }) }

func snapshot(status order.Status, version int64) order.Snapshot {
	return order.Snapshot{
		ID: orderID, CustomerID: customerID, Amount: value.NewMoney(10050, "USD"), Status: status, Version: version,
		CreatedAt: time.Date(2026, 11, 23, 14, 15, 16, 123456000, time.FixedZone("CET", 3600)),
	}
}

// withAllNotes returns a snapshot that has all notes.
func withAllNotes(status order.Status, version int64) order.Snapshot {
	state := snapshot(status, version)
	state.PaymentReference, state.Carrier, state.Tracking, state.CancelReason = "P-1", "UPS", "1Z", `too "late"`
	return state
}

func TestEncodedMessagesAreValidAndNamedAnew(t *testing.T) {
	c := codec.New(nil)
	event := order.Created{EventData: order.EventData{Order: snapshot(order.StatusCreated, 1)}}
	first, err := c.Encode(event, order.Anyone())
	require.NoError(t, err)
	second, err := c.Encode(event, order.Anyone())
	require.NoError(t, err)

	require.NoError(t, first.Validate())
	require.NotEqual(t, first.ID, second.ID)
	require.EqualValues(t, 7, uuid.MustParse(first.ID).Version())
}

func TestEncodeRefusesWhatIsNotAnEvent(t *testing.T) {
	_, err := fixed().Encode(nil, order.Anyone())
	require.Error(t, err)
	_, err = fixed().Encode(&order.Created{}, order.Anyone())
	require.ErrorContains(t, err, "*order.Created")

	beyond := snapshot(order.StatusCreated, 1)
	beyond.CreatedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // RFC 3339 has four digits for the year
	_, err = fixed().Encode(order.Created{EventData: order.EventData{Order: beyond}}, order.Anyone())
	require.ErrorContains(t, err, orderID)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := events().Draw(t, "event")
		message, err := fixed().Encode(event, order.Anyone())
		require.NoError(t, err)
		require.NoError(t, contract.CheckEvent(message.Subject, message.Type, message.Payload))
		decoded, err := fixed().Decode(message)
		require.NoError(t, err)
		require.Equal(t, event, decoded)
	})
}

// TestTheContractOfEventsIsStrict checks that the contract refuses each of these changed events.
func TestTheContractOfEventsIsStrict(t *testing.T) {
	require.NoError(t, contract.CheckEvent("orders.paid", orders.TypePaid, []byte(paidBody)))
	for _, change := range [][2]string{
		{`"amount":"100.50"`, `"amount":100.50`},
		{`"amount":"100.50",`, ""},
		{`"version":2`, `"version":0`},
		{`"status":"paid"`, `"status":"shipped"`},
		{`"paid_at":"2026-11-24T10:00:00+02:00"`, `"paid_at":"yesterday"`},
		{`,"paid_at":"2026-11-24T10:00:00+02:00"`, ""},
		{orderID, "42"},
		{`"paid_at"`, `"carrier":"","paid_at"`},
		{`"paid_at"`, `"note":"","paid_at"`},
	} {
		broken := strings.Replace(paidBody, change[0], change[1], 1)
		require.NotEqual(t, paidBody, broken)
		require.Error(t, contract.CheckEvent("orders.paid", orders.TypePaid, []byte(broken)), broken)
	}
	require.Error(t, contract.CheckEvent("orders.shipped", orders.TypePaid, []byte(paidBody)))
	require.Error(t, contract.CheckEvent("orders.lost", orders.TypePaid, []byte(paidBody)))
}

func TestDecodeIgnoresUnknownFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := events().Draw(t, "event")
		message, err := fixed().Encode(event, order.Anyone())
		require.NoError(t, err)
		unknown := rapid.StringMatching(`x_[a-z]{1,10}`).Draw(t, "name")
		value := rapid.SampledFrom([]string{`null`, `1`, `"a"`, `[{}]`, `{"amount":"1"}`}).Draw(t, "value")
		message.Payload = []byte(`{"` + unknown + `":` + value + `,` + string(message.Payload[1:]))
		decoded, err := fixed().Decode(message)
		require.NoError(t, err)
		require.Equal(t, event, decoded)
	})
}

func events() *rapid.Generator[order.Event] {
	ids := rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}`)
	times := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
	return rapid.Custom(func(t *rapid.T) order.Event {
		currency := rapid.SampledFrom([]value.Currency{"USD", "JPY", "KWD", "KZT"}).Draw(t, "currency")
		state := order.Snapshot{
			ID:         order.ID(ids.Draw(t, "order")),
			CustomerID: value.CustomerID(ids.Draw(t, "customer")),
			Amount:     value.NewMoney(rapid.Int64Min(1).Draw(t, "amount"), currency),
			Version:    rapid.Int64Min(1).Draw(t, "version"),
			CreatedAt:  times.Draw(t, "created"),
		}
		for _, text := range []*value.Note{&state.PaymentReference, &state.Carrier, &state.Tracking, &state.CancelReason} {
			*text = value.Note(rapid.OneOf(rapid.Just(""), rapid.StringOfN(rapid.RuneFrom(nil, unicode.Letter, unicode.Punct), 0, 200, -1)).Draw(t, "text"))
		}
		fact := func(status order.Status) order.EventData {
			state.Status = status
			return order.EventData{Order: state, At: times.Draw(t, "at")}
		}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			state.Status, state.Version = order.StatusCreated, 1
			return order.Created{EventData: order.EventData{Order: state, At: state.CreatedAt}}
		case 1:
			return order.Paid{EventData: fact(order.StatusPaid)}
		case 2:
			return order.Shipped{EventData: fact(order.StatusShipped)}
		default:
			return order.Cancelled{EventData: fact(order.StatusCancelled)}
		}
	})
}

const paidBody = `{"order_id":"` + orderID + `","customer_id":"` + customerID + `","amount":"100.50","currency":"USD",` +
	`"status":"paid","version":2,"created_at":"2026-11-23T13:15:16Z","paid_at":"2026-11-24T10:00:00+02:00"}`

func TestDecodeNormalises(t *testing.T) {
	event, err := fixed().Decode(outbox.Message{Type: orders.TypePaid, Payload: []byte(paidBody)})
	require.NoError(t, err)
	require.IsType(t, order.Paid{}, event)
	require.Equal(t, time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC), order.DataOf(event).At)
}

func TestDecodeRefuses(t *testing.T) {
	with := func(old, replacement string) string {
		require.Contains(t, paidBody, old)
		return strings.Replace(paidBody, old, replacement, 1)
	}
	for name, broken := range map[string]struct{ kind, payload, detail string }{
		"unknown type":       {"outboxie.order.paid.v2", paidBody, "outboxie.order.paid.v2"},
		"no type":            {"", paidBody, "unknown"},
		"empty":              {orders.TypePaid, "", "JSON"},
		"not an object":      {orders.TypePaid, `[]`, "array"},
		"cut off":            {orders.TypePaid, paidBody[:len(paidBody)-1], "JSON"},
		"something behind":   {orders.TypePaid, paidBody + "{}", "top-level"},
		"no order":           {orders.TypePaid, with(`"order_id":"`+orderID+`",`, ""), "order_id"},
		"order not a UUID":   {orders.TypePaid, with(orderID, "12"), "order_id"},
		"customer missing":   {orders.TypePaid, with(customerID, ""), "customer_id"},
		"amount null":        {orders.TypePaid, with(`"100.50"`, "null"), "amount"},
		"amount a number":    {orders.TypePaid, with(`"100.50"`, "100.50"), "amount"},
		"amount too precise": {orders.TypePaid, with("100.50", "100.505"), "decimals"},
		"unknown currency":   {orders.TypePaid, with("USD", "XXX"), "currency"},
		"no version":         {orders.TypePaid, with(`"version":2,`, ""), "version"},
		"version a text":     {orders.TypePaid, with(`:2,`, `:"2",`), "version"},
		"no creation time":   {orders.TypePaid, with(`"created_at":"2026-11-23T13:15:16Z",`, ""), "created_at"},
		"not a time":         {orders.TypePaid, with("2026-11-23T", "yesterday"), "yesterday"},
		"no time of its own": {orders.TypePaid, with("paid_at", "settled_at"), "paid_at"},
		"another's status":   {orders.TypePaid, with(`"status":"paid"`, `"status":"shipped"`), "shipped"},
		"another's type":     {orders.TypeShipped, paidBody, "paid"},
	} {
		t.Run(name, func(t *testing.T) {
			event, err := fixed().Decode(outbox.Message{ID: eventID, Type: broken.kind, Payload: []byte(broken.payload)})
			require.Nil(t, event)
			require.ErrorIs(t, err, inbox.ErrUnreadable)
			require.ErrorContains(t, err, broken.detail)
			require.ErrorContains(t, err, eventID)
		})
	}
}

func TestModule(t *testing.T) {
	app := fxtest.New(t, modules.Codec, fx.Invoke(func(e orders.Encoder, d orders.Decoder) { require.Same(t, e, d) }))
	app.RequireStart().RequireStop()
}
