package ordering_test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const pseudonym value.CustomerID = "00000000-0000-4000-8000-0000000000ff"

// newSealing returns a service that seals events, and the eraser of its customers.
func newSealing() (*fixture, *ordering.Eraser) {
	s := newFixture()
	s.Service = ordering.New(ordering.Ports{
		Work: s.uow, Orders: memory.NewOrderReader(s.uow), Encoder: codec.New(nil), Notifier: s.notifier, Log: s.cursors, Finder: s.stream, Seal: true,
	}, func() order.ID { return "00000000-0000-7000-8000-000000000001" }, newFixtureClock)
	return s, ordering.NewEraser(memory.NewPersonalData(s.uow, memory.NewInbox()), func() value.CustomerID { return pseudonym })
}

// open opens the newest event of the log.
func (s *fixture) open(t *testing.T) (outbox.Entry, order.EventData) {
	t.Helper()
	entries := s.log.Committed()
	entry := entries[len(entries)-1]
	found, err := memory.NewKeyRing(s.uow).Find(t.Context(), []string{entry.SealedWith()})
	require.NoError(t, err)
	require.Len(t, found, 1)
	opened, err := entry.Open(found[0].SealKey)
	require.NoError(t, err)
	event, err := codec.New(nil).Decode(opened)
	require.NoError(t, err)
	return entry, order.DataOf(event)
}

// TestEventsAreSealed checks that every event of an order is sealed with one key of the customer, and that its headers do not name the customer.
func TestEventsAreSealed(t *testing.T) {
	s, _ := newSealing()
	me := order.Principal{Kind: order.KindCustomer, ID: string(customer), Customer: customer, Permissions: order.Permissions()}
	staff := order.Principal{Kind: order.KindService, ID: "warehouse", Permissions: order.Permissions()}
	placed, err := s.Place(t.Context(), me, customer, amount, "key")
	require.NoError(t, err)
	created, data := s.open(t)
	require.Equal(t, placed, data.Order)
	require.Equal(t, map[string]string{outbox.HeaderActorType: "app_user", outbox.HeaderSealedKey: created.SealedWith()}, created.Headers)

	_, err = s.Pay(t.Context(), staff, placed.ID, "P-1", orders.Precondition{})
	require.NoError(t, err)
	paid, data := s.open(t)
	require.Equal(t, value.Note("P-1"), data.Order.PaymentReference)
	require.Equal(t, created.SealedWith(), paid.SealedWith())
	require.Equal(t, "warehouse", paid.Headers[outbox.HeaderActorID], "another principal is named")
}

// TestCostOfSealing checks how many bytes sealing adds to an event in the outbox, and logs the figures in docs/personal-data.md. The statements
// are counted by TestTransactionsSendNoMoreThanTheyMust of the Postgres adapter.
func TestCostOfSealing(t *testing.T) {
	sealing, _ := newSealing()
	var plain, sealed [2]outbox.Message
	for s, messages := range map[*fixture]*[2]outbox.Message{newFixture(): &plain, sealing: &sealed} {
		placed, err := s.Place(t.Context(), order.Anyone(), customer, amount, "")
		require.NoError(t, err)
		_, err = s.pay(t.Context(), placed.ID)
		require.NoError(t, err)
		for i, entry := range s.log.Committed() {
			messages[i] = entry.Message
		}
	}
	for i := range plain {
		payload := len(`{"sealed":""}`) + base64.StdEncoding.EncodedLen(12+len(plain[i].Payload)+16) // with nonce and tag
		require.Len(t, sealed[i].Payload, payload)
		require.Equal(t, 56, outbox.HeadersSize(sealed[i].Headers)-outbox.HeadersSize(plain[i].Headers))
		t.Logf("%s: %d bytes plain, %d bytes sealed", plain[i].Type, len(plain[i].Payload)+outbox.HeadersSize(plain[i].Headers),
			len(sealed[i].Payload)+outbox.HeadersSize(sealed[i].Headers))
	}
}

// TestErase checks that an erased customer's order goes on with the pseudonym, that the events of before cannot be opened, and that the customer
// may come again.
func TestErase(t *testing.T) {
	s, eraser := newSealing()
	placed, err := s.Place(t.Context(), order.Anyone(), customer, amount, "")
	require.NoError(t, err)
	before, _ := s.open(t)
	want := orders.CustomerData{Key: true, Orders: 1, SealedEvents: 1}
	for _, look := range []func() (orders.CustomerData, error){
		func() (orders.CustomerData, error) { return eraser.Inspect(t.Context(), customer) },
		func() (orders.CustomerData, error) { return eraser.Erase(t.Context(), customer) },
	} {
		found, err := look()
		require.NoError(t, err)
		require.Equal(t, want, found)
	}
	found, err := memory.NewKeyRing(s.uow).Find(t.Context(), []string{before.SealedWith()})
	require.NoError(t, err)
	require.True(t, found[0].Erased)

	paid, err := s.pay(t.Context(), placed.ID)
	require.NoError(t, err)
	require.Equal(t, []any{pseudonym, int64(2)}, []any{paid.CustomerID, paid.Version})
	after, data := s.open(t)
	require.Equal(t, pseudonym, data.Order.CustomerID)
	require.NotEqual(t, before.SealedWith(), after.SealedWith())
}
