package opening_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/opening"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

var errDown = fault.New(fault.Unavailable, "down", "the database is down")

// keys are a key ring. They count the calls.
type keys struct {
	found map[string]orders.FoundKey
	asked [][]string
	err   error
}

func newKeys(n int) (*keys, []outbox.SealKey) {
	k, all := &keys{found: make(map[string]orders.FoundKey)}, make([]outbox.SealKey, n)
	for i := range all {
		all[i] = outbox.NewSealKey()
		k.found[all[i].ID] = orders.FoundKey{SealKey: all[i]}
	}
	return k, all
}

func (k *keys) Find(_ context.Context, ids []string) (found []orders.FoundKey, err error) {
	k.asked = append(k.asked, ids)
	for _, id := range ids {
		if key, has := k.found[id]; has {
			found = append(found, key)
		}
	}
	return found, k.err
}

func (k *keys) erase(key outbox.SealKey) {
	k.found[key.ID] = orders.FoundKey{SealKey: outbox.SealKey{ID: key.ID}, Erased: true}
}

// recorder is a handler that records the events that it gets, and the unit of work and the emitter of a subscriber.
type recorder struct {
	handled, applied, emitted []outbox.Message
	failed                    error
}

func (*recorder) Name() string    { return "recorder" }
func (*recorder) Types() []string { return []string{"a.v1"} }
func (*recorder) External() bool  { return true }

func (r *recorder) Handle(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
	r.handled = append(r.handled, entry.Message)
	return r.failed
}

func (r *recorder) Applied(_ context.Context, entry outbox.Entry) {
	r.applied = append(r.applied, entry.Message)
}

func (r *recorder) Emit(_ context.Context, _ inbox.Tx, _ outbox.Entry, messages ...outbox.Message) error {
	r.emitted = append(r.emitted, messages...)
	return r.failed
}

func (r *recorder) Apply(ctx context.Context, _ string, batch inbox.Batch, handler inbox.Handler, _ inbox.FailurePolicy) (inbox.Outcome, error) {
	for _, event := range batch.Events {
		if err := handler.Handle(ctx, nil, event.Entry); err != nil {
			return inbox.Outcome{}, err
		}
	}
	return inbox.Outcome{Emitted: 7}, nil
}

func plain(n int) outbox.Entry {
	return outbox.Entry{Position: outbox.Position(n), Message: outbox.Message{
		ID: fmt.Sprint("event ", n), Type: "a.v1", Key: outbox.Key{Type: "order", ID: fmt.Sprint(n)}, Version: 1, Payload: []byte(fmt.Sprintf(`{"n":%d}`, n)),
	}}
}

func sealed(t *testing.T, n int, key outbox.SealKey) outbox.Entry {
	t.Helper()
	entry := plain(n)
	message, err := entry.Seal(key)
	require.NoError(t, err)
	entry.Message = message
	return entry
}

type subject struct {
	*keys
	*recorder
	ring    *opening.Ring
	handler inbox.Handler
	log     *bytes.Buffer
}

func newSubject(k *keys) subject {
	s := subject{keys: k, recorder: &recorder{}, ring: opening.NewRing(k, time.Now), log: &bytes.Buffer{}}
	s.handler = opening.Handler(s.ring, "billing", slog.New(slog.NewTextHandler(s.log, nil)), s.recorder)
	return s
}

// TestHandlerGetsPlainPayloads checks that a handler gets sealed and plain events alike, with plain payloads, before and after the commit.
func TestHandlerGetsPlainPayloads(t *testing.T) {
	k, all := newKeys(1)
	s := newSubject(k)
	require.Equal(t, []any{"recorder", []string{"a.v1"}, true}, []any{s.handler.Name(), s.handler.Types(), s.handler.External()})
	for _, entry := range []outbox.Entry{plain(1), sealed(t, 1, all[0])} {
		require.NoError(t, s.handler.Handle(t.Context(), nil, entry))
		s.handler.Applied(t.Context(), entry)
	}
	for _, got := range [][]outbox.Message{s.handled, s.applied} {
		require.Len(t, got, 2)
		require.Equal(t, got[0].Payload, got[1].Payload)
		require.Equal(t, []string{"", all[0].ID}, []string{got[0].OpenedWith(), got[1].OpenedWith()})
	}
	require.Len(t, s.asked, 1)
	s.failed = errDown
	require.ErrorIs(t, s.handler.Handle(t.Context(), nil, sealed(t, 2, all[0])), errDown, "the handler's error stays")
}

// TestErasedEventsHaveNoEffect checks that an event whose key was erased succeeds without a call of the handler, is counted, and has a line in
// the log.
func TestErasedEventsHaveNoEffect(t *testing.T) {
	k, all := newKeys(1)
	k.erase(all[0])
	s, entry := newSubject(k), sealed(t, 1, all[0])
	require.NoError(t, s.handler.Handle(t.Context(), nil, entry))
	s.handler.Applied(t.Context(), entry)
	require.Empty(t, s.handled)
	require.Empty(t, s.applied)
	require.EqualValues(t, 1, s.ring.Erased())
	require.Contains(t, s.log.String(), "an event had no effect, because its customer was erased")
	require.Contains(t, s.log.String(), "aggregate=order/1")
}

// TestKeysThatCannotBeUsed checks that an outage stays one, so that the subscriber waits, and that an event with an unknown or a wrong key is a
// permanent failure.
func TestKeysThatCannotBeUsed(t *testing.T) {
	k, all := newKeys(2)
	s := newSubject(k)
	k.err = errDown
	entry := sealed(t, 1, all[0])
	require.Equal(t, fault.Unavailable, fault.KindOf(s.handler.Handle(t.Context(), nil, entry)))
	_, err := opening.UnitOfWork(s.ring, s.recorder).Apply(t.Context(), "billing", inbox.Batch{Events: []inbox.Event{{Entry: entry}}}, s.handler, nil)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	k.err = nil

	err = s.handler.Handle(t.Context(), nil, sealed(t, 1, outbox.NewSealKey()))
	require.ErrorIs(t, err, opening.ErrUnknownKey)
	require.True(t, inbox.Permanent(err))
	require.ErrorContains(t, err, "is it the database of the service that sealed the event?")

	entry.Headers[outbox.HeaderSealedKey] = all[1].ID
	err = s.handler.Handle(t.Context(), nil, entry)
	require.ErrorIs(t, err, outbox.ErrNotOpened)
	require.True(t, inbox.Permanent(err))
	s.handler.Applied(t.Context(), entry)
	s.handler.Applied(t.Context(), sealed(t, 1, outbox.NewSealKey()))
	require.Empty(t, s.applied)
	require.Empty(t, s.handled)
}

// TestOneReadForABatch checks that the keys of a batch are read with one call, and that a batch of plain events reads none.
func TestOneReadForABatch(t *testing.T) {
	k, all := newKeys(100)
	s := newSubject(k)
	work := opening.UnitOfWork(s.ring, s.recorder)
	var batch inbox.Batch
	for i := range 300 {
		batch.Events = append(batch.Events, inbox.Event{Entry: sealed(t, i, all[i%len(all)])}, inbox.Event{Entry: plain(i)})
	}
	for range 2 {
		outcome, err := work.Apply(t.Context(), "billing", batch, s.handler, nil)
		require.NoError(t, err)
		require.Equal(t, 7, outcome.Emitted)
	}
	require.Len(t, s.asked, 1)
	require.Len(t, s.asked[0], 100)
	require.Len(t, s.handled, 1200)
	_, err := work.Apply(t.Context(), "billing", inbox.Batch{Events: []inbox.Event{{Entry: plain(1)}}}, s.handler, nil)
	require.NoError(t, err)
	require.Len(t, s.asked, 1)
}

// TestErasureTakesEffectInTime checks that a key is used for less than opening.Forget after it was read, and that a batch reads a key again
// early, so that the handler does not.
func TestErasureTakesEffectInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, all := newKeys(1)
		s, entry := newSubject(k), sealed(t, 1, all[0])
		require.NoError(t, s.handler.Handle(t.Context(), nil, entry))
		k.erase(all[0])
		time.Sleep(opening.Forget - 1)
		require.NoError(t, s.handler.Handle(t.Context(), nil, entry))
		require.Len(t, s.handled, 2)
		time.Sleep(time.Nanosecond)
		require.NoError(t, s.handler.Handle(t.Context(), nil, entry))
		require.Len(t, s.handled, 2)
		require.EqualValues(t, 1, s.ring.Erased())

		reads := len(s.asked)
		time.Sleep(opening.Forget / 2)
		_, err := opening.UnitOfWork(s.ring, s.recorder).Apply(t.Context(), "billing", inbox.Batch{Events: []inbox.Event{{Entry: entry}}}, s.handler, nil)
		require.NoError(t, err)
		require.Len(t, s.asked, reads+1)
	})
}

// TestRingIsBounded checks that a ring keeps at most 20,000 keys, the newest ones.
func TestRingIsBounded(t *testing.T) {
	const many = 45_000
	k, all := newKeys(many)
	s := newSubject(k)
	work := opening.UnitOfWork(s.ring, s.recorder)
	apply := func(from, to int) {
		var batch inbox.Batch
		for i := from; i < to; i++ {
			entry := plain(i)
			entry.Headers = map[string]string{outbox.HeaderSealedKey: all[i].ID}
			batch.Events = append(batch.Events, inbox.Event{Entry: entry})
		}
		nothing := opening.Handler(s.ring, "billing", slog.New(slog.DiscardHandler), s.recorder)
		_, err := work.Apply(t.Context(), "billing", batch, nothing, nil)
		require.ErrorIs(t, err, outbox.ErrNotOpened, "these payloads are plain")
	}
	for from := 0; from < many; from += 500 {
		apply(from, from+500)
	}
	reads := len(s.asked)
	apply(many-10_000, many)
	require.Len(t, s.asked, reads, "the newest are kept")
	apply(0, many-20_000)
	require.Len(t, s.asked[len(s.asked)-1], many-20_000, "the oldest are not")
}

// TestEmittedEventsAreSealed checks that an emitter seals what follows from a sealed event with the same key, and nothing else.
func TestEmittedEventsAreSealed(t *testing.T) {
	k, all := newKeys(1)
	s := newSubject(k)
	emitter := opening.Emitter(s.ring, s.recorder)
	require.NoError(t, s.handler.Handle(t.Context(), nil, sealed(t, 1, all[0])))
	opened := outbox.Entry{Message: s.handled[0]}
	follows := plain(9).Message
	require.NoError(t, emitter.Emit(t.Context(), nil, opened, follows))
	require.NoError(t, emitter.Emit(t.Context(), nil, plain(1), follows))
	require.Len(t, s.emitted, 2)
	require.Equal(t, all[0].ID, s.emitted[0].SealedWith())
	again, err := s.emitted[0].Open(all[0])
	require.NoError(t, err)
	require.Equal(t, follows.Payload, again.Payload)
	require.Equal(t, follows, s.emitted[1])
	s.failed = errors.New("no")
	require.ErrorIs(t, emitter.Emit(t.Context(), nil, opened, follows), s.failed)

	// A new ring has not seen the key: the customer was erased in between, or the database is down.
	k.erase(all[0])
	other := opening.Emitter(opening.NewRing(k, time.Now), s.recorder)
	require.NoError(t, other.Emit(t.Context(), nil, opened, follows))
	require.Len(t, s.emitted, 3)
	k.err = errDown
	require.ErrorIs(t, opening.Emitter(opening.NewRing(k, time.Now), s.recorder).Emit(t.Context(), nil, opened, follows), errDown)
}
