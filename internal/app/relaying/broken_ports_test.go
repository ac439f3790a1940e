package relaying_test

import (
	"context"
	"errors"
	"math"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Each type in this file breaks a port in a way in which some other outboxes are broken.

// anyTail appends wherever the stream ends, instead of by compare-and-swap.
type anyTail struct{ *memory.Stream }

func (s anyTail) append(after uint64, store func(tail uint64) (uint64, error)) (uint64, error) {
	for {
		tail := s.LastSequence()
		if last, err := store(tail); !errors.Is(err, relay.ErrTailMoved) {
			return after + (last - tail), err
		}
	}
}

func (s anyTail) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return s.append(after, func(tail uint64) (uint64, error) { return s.Stream.Publish(ctx, tail, batch) })
}

func (s anyTail) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return s.append(after, func(tail uint64) (uint64, error) { return s.Stream.Redrive(ctx, tail, at, batch) })
}

func (s anyTail) PublishControl(ctx context.Context, after uint64, message relay.ControlMessage) (uint64, error) {
	return s.append(after, func(tail uint64) (uint64, error) { return s.Stream.PublishControl(ctx, tail, message) })
}

// gapsIgnored is a log that does not wait for open transactions that can still fill a gap.
type gapsIgnored struct {
	*memory.Log
	parking *memory.Parking
}

func (l gapsIgnored) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (page relay.Page, err error) {
	parked := make(map[outbox.Position]bool)
	for _, event := range l.parking.Lot() {
		parked[event.Position] = true
	}
	size := 0
	for _, entry := range l.Readable() {
		if entry.Position <= from.Position {
			continue
		}
		size += len(entry.Payload) + outbox.HeadersSize(entry.Headers)
		if len(page.Entries) > 0 && (len(page.Entries) == limit.Count || size > limit.Bytes) {
			page.More = true
			return page, nil
		}
		entry.Parked = parked[entry.Position]
		page.Entries = append(page.Entries, entry)
	}
	if len(page.Entries) == 0 {
		return l.Log.After(ctx, from, limit)
	}
	return page, nil
}

// unfenced makes each write with the present token and the present revision, so that no fence refuses the write.
type unfenced struct{ h *harness }

func (u unfenced) write(ctx context.Context, do func(fence relay.WriteFence) error) error {
	for {
		_, token := u.h.lease.Holder()
		cursor, err := u.h.cursors.Load(ctx)
		if err != nil {
			return err
		}
		err = do(relay.WriteFence{Token: token, Revision: cursor.Revision})
		if !errors.Is(err, relay.ErrLeaseLost) && !errors.Is(err, relay.ErrStaleRevision) {
			return err
		}
	}
}

type unfencedCursors struct {
	relay.CursorStore
	unfenced
}

func (c unfencedCursors) Save(ctx context.Context, _ relay.WriteFence, cursor relay.Cursor) (saved relay.Cursor, err error) {
	err = c.write(ctx, func(fence relay.WriteFence) (err error) {
		saved, err = c.CursorStore.Save(ctx, fence, cursor)
		return err
	})
	return saved, err
}

func (c unfencedCursors) Report(ctx context.Context, _ relay.WriteFence, halt *relay.Halt) error {
	return c.write(ctx, func(fence relay.WriteFence) error { return c.CursorStore.Report(ctx, fence, halt) })
}

type unfencedParking struct {
	relay.Parking
	unfenced
}

func (p unfencedParking) Reconcile(
	ctx context.Context, _ relay.WriteFence, tail relay.MessageMeta, sequence uint64, end bool,
) (summary relay.ParkingSummary, err error) {
	err = p.write(ctx, func(fence relay.WriteFence) (err error) {
		summary, err = p.Parking.Reconcile(ctx, fence, tail, sequence, end)
		return err
	})
	return summary, err
}

func (p unfencedParking) SetAside(ctx context.Context, _ relay.WriteFence, entries []outbox.Entry) (aside []outbox.Position, err error) {
	err = p.write(ctx, func(fence relay.WriteFence) (err error) {
		aside, err = p.Parking.SetAside(ctx, fence, entries)
		return err
	})
	return aside, err
}

func (p unfencedParking) Refuse(ctx context.Context, _ relay.WriteFence, entry outbox.Entry, reason string) error {
	return p.write(ctx, func(fence relay.WriteFence) error { return p.Parking.Refuse(ctx, fence, entry, reason) })
}

// trustingParking trusts every end of the stream that a broker reports, without proof.
type trustingParking struct{ relay.Parking }

func (p trustingParking) Reconcile(
	ctx context.Context, fence relay.WriteFence, tail relay.MessageMeta, sequence uint64, _ bool,
) (relay.ParkingSummary, error) {
	return p.Parking.Reconcile(ctx, fence, tail, sequence, true)
}

// uncountedLog and uncountedCursors do not check whether each event above the saved cursor has a message in the stream.
type uncountedLog struct{ relay.Log }

func (l uncountedLog) Verify(ctx context.Context, reached outbox.Progress, _ uint64) (bool, error) {
	return l.Log.Verify(ctx, reached, math.MaxUint64)
}

type uncountedCursors struct{ *memory.CursorStore }

func (c uncountedCursors) Save(ctx context.Context, fence relay.WriteFence, cursor relay.Cursor) (relay.Cursor, error) {
	saved, err := c.CursorStore.Save(ctx, fence, cursor)
	if !errors.Is(err, relay.ErrSequenceBehind) {
		return saved, err
	}
	c.Edit(func(present *relay.Cursor) {
		present.Progress, present.StreamCreated, present.StreamSequence = cursor.Progress, cursor.StreamCreated, cursor.StreamSequence
	})
	return c.Load(ctx)
}
