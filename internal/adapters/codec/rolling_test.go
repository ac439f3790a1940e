package codec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/app/totals"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// The next program of these tests has version 2 of the created event: amount and currency are in an object, total. This program cannot read
// that, and would lose it under the old type.
const createdV2 = nameCreated + ".v2"

type total struct {
	Amount   json.RawMessage `json:"amount"`
	Currency json.RawMessage `json:"currency"`
}

// joinTotal is the next program's upcaster from version 1 to version 2.
func joinTotal(members map[string]json.RawMessage) (err error) {
	members["total"], err = json.Marshal(total{members["amount"], members["currency"]})
	delete(members, "amount")
	delete(members, "currency")
	return err
}

// nextCodec is the codec of the next program.
type nextCodec struct{ *codec.Codec }

func newNextCodec() nextCodec {
	return nextCodec{codec.NewWithVersions(nil, map[string][]codec.Upcaster{nameCreated: {joinTotal}})}
}

// Decode upcasts, and reads version 2 only.
func (c nextCodec) Decode(message outbox.Message) (order.Event, error) {
	name, members, err := c.Newest(message)
	if err != nil || name != nameCreated {
		return c.Codec.Decode(message)
	}
	var newest total
	if err := json.Unmarshal(members["total"], &newest); err != nil {
		return nil, inbox.ErrUnreadable.With("event %s has no total", message.ID).Wrap(err)
	}
	members["amount"], members["currency"] = newest.Amount, newest.Currency
	flat, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	return codec.New(nil).Decode(outbox.Message{ID: message.ID, Type: orders.TypeCreated, Payload: flat})
}

// Encode writes version 2.
func (c nextCodec) Encode(event order.Event, who order.Principal) (outbox.Message, error) {
	message, err := c.Codec.Encode(event, who)
	if err != nil || message.Type != orders.TypeCreated {
		return message, err
	}
	_, members, err := c.Newest(message)
	if err != nil {
		return message, err
	}
	message.Type = createdV2
	message.Payload, err = json.Marshal(members)
	return message, err
}

// shop is a stream with orders, and a subscriber that adds up their totals. It runs in fake time.
type shop struct {
	t        *testing.T
	stream   *memory.Stream
	database *memory.Inbox
	running  sync.WaitGroup
	placed   int64 // orders
	events   []outbox.Entry
}

const subscriber = "billing"

func inShop(t *testing.T, test func(s *shop)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &shop{t: t, stream: memory.NewStream(), database: memory.NewInbox()}
		s.stream.LimitSubjects("orders.")
		_, err := s.stream.Open(t.Context(), 1)
		require.NoError(t, err)
		test(s)
		s.running.Wait()
	})
}

// start starts a copy of the subscriber, with the handler of this program or of the next one.
func (s *shop) start(name string, next bool) (stop func()) {
	s.t.Helper()
	var decoder orders.Decoder = codec.New(nil)
	if next {
		decoder = newNextCodec()
	}
	quiet := slog.New(slog.DiscardHandler)
	handler := totals.New(subscriber, decoder, memory.NewTotals(), quiet)
	functions := handler.Functions()
	if next {
		functions[createdV2] = functions[orders.TypeCreated] // the old type stays beside the new one
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	running := subscribing.New(subscriber, name, subscribing.Ports{
		Stream: memory.NewReader(s.stream, subscriber), Checkpoints: s.database, Work: s.database, Letters: s.database,
		Sweeper: s.database, Log: s.database,
		Handlers: func(string) (inbox.Handler, error) {
			return subscribing.NewHandler(totals.Name, functions, handler.Applied), nil
		},
	}, subscribing.Options{Lanes: 3, Transactions: 3}, quiet)
	ended := make(chan struct{})
	s.running.Go(func() { _ = running.Run(ctx); close(ended) })
	time.Sleep(2 * time.Second)
	return func() { cancel(); <-ended }
}

// place publishes count orders that are created and paid, with the encoders in turn.
func (s *shop) place(count int, encoders ...orders.Encoder) {
	s.t.Helper()
	for i := range count {
		state := snapshot(order.StatusCreated, 1)
		state.ID = order.ID(uuid.NewString())
		created := order.Created{EventData: order.EventData{Order: state, At: state.CreatedAt}}
		state.Status, state.Version = order.StatusPaid, 2
		for _, event := range []order.Event{created, order.Paid{EventData: order.EventData{Order: state, At: changedAt}}} {
			message, err := encoders[i%len(encoders)].Encode(event, order.Anyone())
			require.NoError(s.t, err)
			s.events = append(s.events, outbox.Entry{
				Message: message, Position: outbox.Position(len(s.events) + 1), RecordedAt: time.Now().UTC(),
			})
			_, err = s.stream.Publish(s.t.Context(), s.stream.LastSequence(), s.events[len(s.events)-1:])
			require.NoError(s.t, err)
		}
		s.placed++
	}
	time.Sleep(5 * time.Second)
}

// counted returns how many orders are in the totals, and requires that the sum is that of so many orders.
func (s *shop) counted() int64 {
	s.t.Helper()
	counted := s.database.Total(subscriber, customerID, "USD")
	require.Equal(s.t, fmt.Sprint(counted.Orders*10050), counted.AmountMinor.String())
	return counted.Orders
}

// requireAll requires that every order was counted once, every event took effect, and nothing waits.
func (s *shop) requireAll() {
	s.t.Helper()
	require.Equal(s.t, s.placed, s.counted())
	for _, event := range s.events {
		require.True(s.t, s.database.Applied(subscriber, event.ID), "%s at %d", event.Type, event.Position)
	}
	letters, err := s.database.Letters(s.t.Context(), subscriber, 10)
	require.NoError(s.t, err)
	require.Empty(s.t, letters)
}

// TestRollingDeploymentOfANewVersion checks a deployment in the right order: readers first, copy by copy, then writers, instance by instance.
// Nothing is lost, nothing is dead in the end, and a new subscriber reads the whole history. A rollback of the readers only delays.
func TestRollingDeploymentOfANewVersion(t *testing.T) {
	inShop(t, func(s *shop) {
		now, next := codec.New(nil), newNextCodec()
		stopA, stopB := s.start("a", false), s.start("b", false)
		s.place(10, now)
		s.requireAll()

		stopC := s.start("c", true) // old and new readers, old writers
		s.place(10, now)
		s.requireAll()
		stopA()
		s.place(20, now, next) // old and new readers, old and new writers
		s.requireAll()
		stopB()
		s.place(10, next)
		s.requireAll()

		stopD := s.start("d", false) // the readers are rolled back, the writers are not
		stopC()
		time.Sleep(5 * time.Second)
		s.place(10, next)
		require.Equal(t, s.placed-10, s.counted())
		dead, err := s.database.CountDead(s.t.Context(), subscriber)
		require.NoError(t, err)
		require.Equal(t, 10, dead, "each order waits for a program that reads version 2")
		stopE := s.start("e", true)
		stopD()
		time.Sleep(10 * time.Second)
		s.requireAll()
		stopE()

		s.database = memory.NewInbox() // the history has both versions
		stopF := s.start("f", true)
		time.Sleep(10 * time.Second)
		s.requireAll()
		stopF()
	})
}

// TestWritersBeforeReaders checks why the order matters: if a writer publishes the new version before the first reader wants it, the
// subscriber passes over these events, and does not come back to them. A rewind is the repair.
func TestWritersBeforeReaders(t *testing.T) {
	inShop(t, func(s *shop) {
		stopA := s.start("a", false)
		s.place(10, newNextCodec())
		stopB := s.start("b", true)
		s.place(10, newNextCodec())
		require.EqualValues(t, 10, s.counted())
		letters, err := s.database.Letters(s.t.Context(), subscriber, 10)
		require.NoError(t, err)
		require.Empty(t, letters, "nobody is told")

		operator := memory.NewOperator(s.database)
		known, err := operator.Overviews(s.t.Context())
		require.NoError(t, err)
		_, err = operator.Move(s.t.Context(), subscriber, inbox.Move{Stream: known[0].Lanes[0].Stream},
			func(context.Context, []inbox.Checkpoint) error { return nil })
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		s.requireAll()
		stopA()
		stopB()
	})
}

// TestANewVersionUnderTheOldTypeIsDead checks why a change that old readers cannot read needs a new type: under the old type it is a dead
// letter at once, or means something else.
func TestANewVersionUnderTheOldTypeIsDead(t *testing.T) {
	event := order.Created{EventData: order.EventData{Order: snapshot(order.StatusCreated, 1)}}
	message, err := newNextCodec().Encode(event, order.Anyone())
	require.NoError(t, err)
	read, err := newNextCodec().Decode(message)
	require.NoError(t, err)
	require.Equal(t, order.DataOf(event).Order.Amount, order.DataOf(read).Order.Amount)

	message.Type = orders.TypeCreated
	_, err = codec.New(nil).Decode(message)
	require.ErrorIs(t, err, inbox.ErrUnreadable)
	require.True(t, inbox.Permanent(err), "no retry can help")
}
