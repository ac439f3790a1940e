package codec_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const nameCreated = "outboxie.order.created"

// splitTotal is an upcaster of tests. In its version 1, an order has its total as one text: 100.50 USD.
func splitTotal(members map[string]json.RawMessage) error {
	var total string
	if err := json.Unmarshal(members["total"], &total); err != nil {
		return err
	}
	amount, currency, found := strings.Cut(total, " ")
	if !found {
		return errors.New("total has no currency")
	}
	delete(members, "total")
	members["amount"], members["currency"] = json.RawMessage(`"`+amount+`"`), json.RawMessage(`"`+currency+`"`)
	return nil
}

// renameBuyer is an upcaster of tests. In its version 2, an order has the customer under another name.
func renameBuyer(members map[string]json.RawMessage) error {
	members["customer_id"] = members["buyer"]
	delete(members, "buyer")
	return nil
}

// TestUpcastersAreChained checks that a payload of any version is read as the same event: each upcaster turns it into the next version, and
// Decode reads the newest one. Here the newest version is 3. Versions that there are not are refused, and so is a payload that an upcaster
// cannot read. The other types have their own versions.
func TestUpcastersAreChained(t *testing.T) {
	program := codec.NewWithVersions(nil, map[string][]codec.Upcaster{nameCreated: {splitTotal, renameBuyer}})
	newest := string(payloadOf(t, "outboxie.order.created.v1/plain.json"))
	second := strings.Replace(newest, "customer_id", "buyer", 1)
	first := strings.Replace(second, `"amount":"100.50","currency":"USD"`, `"total":"100.50 USD"`, 1)
	want, err := codec.New(nil).Decode(outbox.Message{Type: orders.TypeCreated, Payload: []byte(newest)})
	require.NoError(t, err)
	for version, payload := range map[string]string{".v1": first, ".v2": second, ".v3": newest} {
		event, err := program.Decode(outbox.Message{ID: eventID, Type: nameCreated + version, Payload: []byte(payload)})
		require.NoError(t, err, version)
		require.Equal(t, want, event, version)
		for _, other := range []string{first, second, newest} {
			if other != payload {
				_, err = program.Decode(outbox.Message{ID: eventID, Type: nameCreated + version, Payload: []byte(other)})
				require.ErrorIs(t, err, inbox.ErrUnreadable, "%s: %s", version, other)
			}
		}
	}
	paid, err := program.Decode(outbox.Message{Type: orders.TypePaid, Payload: []byte(paidBody)})
	require.NoError(t, err)
	require.NotNil(t, paid)

	for refused, reason := range map[[2]string]string{
		{nameCreated + ".v4", newest}:                                   "reads outboxie.order.created up to version 3",
		{nameCreated + ".v0", newest}:                                   "the type is unknown",
		{nameCreated + ".v-1", newest}:                                  "the type is unknown",
		{nameCreated + ".v03", newest}:                                  "the type is unknown",
		{nameCreated + ".v+3", newest}:                                  "the type is unknown",
		{nameCreated + ".v3.v3", newest}:                                "the type is unknown",
		{nameCreated + ".v99999999999999999999", newest}:                "the type is unknown",
		{nameCreated, newest}:                                           "the type is unknown",
		{"outboxie.order.lost.v1", newest}:                              "the type is unknown",
		{nameCreated + ".v1", strings.Replace(first, " USD", "", 1)}:    "version 1 cannot be turned into version 2: total has no currency",
		{nameCreated + ".v1", "null"}:                                   "version 1 cannot be turned into version 2",
		{nameCreated + ".v2", "null"}:                                   "order_id",
		{nameCreated + ".v3", "null"}:                                   "order_id",
		{nameCreated + ".v1", "[]"}:                                     "array",
		{nameCreated + ".v1", strings.Replace(first, "100.50", "a", 1)}: "amount",
	} {
		_, err := program.Decode(outbox.Message{ID: eventID, Type: refused[0], Payload: []byte(refused[1])})
		require.ErrorIs(t, err, inbox.ErrUnreadable, refused[0])
		require.ErrorContains(t, err, reason, refused[0])
	}
}
