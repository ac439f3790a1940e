package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Parking is the parking lot of a Log, fenced by a CursorStore.
type Parking struct {
	cursors   *CursorStore
	log       *Log
	credulous bool
}

var (
	_ relay.Parking           = (*Parking)(nil)
	_ operations.ParkingAdmin = (*Parking)(nil)
)

// NewParking returns the parking lot of the log that cursors are kept for.
func NewParking(cursors *CursorStore) *Parking { return &Parking{cursors: cursors, log: cursors.log} }

// lot is what a Log knows of parked events, by position.
type lot map[outbox.Position]*outbox.ParkedEvent

// inOrder returns the events for which choose is true, in order of position.
func (l lot) inOrder(choose func(*outbox.ParkedEvent) bool) []*outbox.ParkedEvent {
	var chosen []*outbox.ParkedEvent
	for _, position := range slices.Sorted(maps.Keys(l)) {
		if choose(l[position]) {
			chosen = append(chosen, l[position])
		}
	}
	return chosen
}

func (l lot) waitsBefore(key outbox.Key, position outbox.Position) []*outbox.ParkedEvent {
	return l.inOrder(func(e *outbox.ParkedEvent) bool { return e.Key == key && e.Position < position && e.State.Waits() })
}

func (l lot) waiting() bool {
	return len(l.inOrder(func(e *outbox.ParkedEvent) bool { return e.State.Waits() })) > 0
}

func (l lot) add(entry outbox.Entry, state outbox.ParkedState, reason string) {
	if l[entry.Position] == nil {
		l[entry.Position] = &outbox.ParkedEvent{
			Progress: entry.Progress(), Key: entry.Key, Type: entry.Type, Reason: reason, State: state,
			ParkedAt: time.Now(), ChangedAt: time.Now(),
		}
	}
}

func turnTo(event *outbox.ParkedEvent, state outbox.ParkedState, sequence uint64) {
	event.State, event.Sequence, event.ChangedAt = state, sequence, time.Now()
}

// write makes a write to the lot if it is the turn's.
func (p *Parking) write(ctx context.Context, turn outbox.Turn, do func(lot)) error {
	return p.cursors.write(ctx, turn, func() {
		p.log.mu.Lock()
		defer p.log.mu.Unlock()
		do(p.log.lot)
	})
}

// Settle implements the port.
func (p *Parking) Settle(
	ctx context.Context, turn outbox.Turn, tail relay.Stamp, sequence uint64, end bool,
) (settled relay.Settled, err error) {
	err = p.write(ctx, turn, func(l lot) {
		if tail.Ours && tail.Event == 0 && tail.Parked != "" {
			if entry := p.log.committed(tail.Progress.Position); entry != nil && entry.ID == tail.Progress.EventID {
				l.add(*entry, outbox.Parked, tail.Parked)
			}
		}
		if last := l[tail.Event]; tail.Ours && last != nil && last.State == outbox.Redrive {
			arrived := l.inOrder(func(e *outbox.ParkedEvent) bool {
				return e.Key == last.Key && e.Position <= last.Position && e.State == outbox.Redrive && p.log.committed(e.Position) != nil
			})
			for i, event := range arrived {
				turnTo(event, outbox.Redriven, sequence-uint64(len(arrived)-1-i))
			}
		}
		for _, event := range l {
			if event.State == outbox.Redriven && event.Sequence > tail.Held(sequence) {
				settled.Lost = true
				if end || p.credulous {
					turnTo(event, outbox.Redrive, 0)
				}
			}
		}
		settled.Waiting = l.waiting()
	})
	return settled, err
}

// SetAside implements the port.
func (p *Parking) SetAside(ctx context.Context, turn outbox.Turn, entries []outbox.Entry) (aside []outbox.Position, err error) {
	err = p.write(ctx, turn, func(l lot) {
		for _, entry := range entries {
			if before := l.waitsBefore(entry.Key, entry.Position); len(before) > 0 {
				state := outbox.Redrive
				if slices.ContainsFunc(before, func(e *outbox.ParkedEvent) bool { return e.State == outbox.Parked }) {
					state = outbox.Parked
				}
				l.add(entry, state, fmt.Sprintf("it comes after position %d of the same aggregate, which is parked", before[0].Position))
			}
			if l[entry.Position] != nil {
				aside = append(aside, entry.Position)
			}
		}
	})
	return aside, err
}

// Due implements the port.
func (p *Parking) Due(ctx context.Context, upTo outbox.Position, limit outbox.Slice) (due []outbox.Entry, waiting bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	l, bytes := p.log.lot, 0
	ready := l.inOrder(func(e *outbox.ParkedEvent) bool {
		blocked := slices.ContainsFunc(l.waitsBefore(e.Key, e.Position), func(b *outbox.ParkedEvent) bool { return b.State == outbox.Parked })
		return e.State == outbox.Redrive && e.Position <= upTo && !blocked && p.log.committed(e.Position) != nil
	})
	for _, event := range ready {
		if event.Key != ready[0].Key {
			continue
		}
		entry, size := read(*p.log.committed(event.Position), limit)
		entry.Parked = true
		if bytes += size; len(due) > 0 && (len(due) >= limit.Count || bytes > limit.Bytes) {
			break
		}
		due = append(due, entry)
	}
	return due, l.waiting(), nil
}

// Refuse implements the port.
func (p *Parking) Refuse(ctx context.Context, turn outbox.Turn, entry outbox.Entry, reason string) error {
	return p.write(ctx, turn, func(l lot) {
		refused := l[entry.Position]
		if refused == nil || refused.State != outbox.Redrive {
			return
		}
		refused.Reason = reason
		for _, event := range l {
			if event.Key == refused.Key && event.Position >= refused.Position && event.State == outbox.Redrive {
				turnTo(event, outbox.Parked, 0)
			}
		}
	})
}

// Redrive implements the port.
func (p *Parking) Redrive(ctx context.Context, key *outbox.Key) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	chosen := p.log.lot.inOrder(func(e *outbox.ParkedEvent) bool {
		return e.State == outbox.Parked && (key == nil || e.Key == *key)
	})
	for _, event := range chosen {
		turnTo(event, outbox.Redrive, 0)
	}
	if key != nil && len(chosen) == 0 {
		return 0, relay.ErrNotParked.With("no event of %s is parked", key)
	}
	return len(chosen), nil
}

// Discard implements the port.
func (p *Parking) Discard(ctx context.Context, position outbox.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	event := p.log.lot[position]
	if event == nil || event.State != outbox.Parked && (event.State != outbox.Redrive || p.log.committed(position) != nil) {
		return relay.ErrNotParked.With("no event is parked at position %d", position)
	}
	turnTo(event, outbox.Discarded, 0)
	return nil
}

// Waiting implements the port.
func (p *Parking) Waiting(ctx context.Context, limit int) ([]outbox.ParkedEvent, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var waiting []outbox.ParkedEvent
	for _, event := range p.Lot() {
		if event.State.Waits() && len(waiting) < limit {
			waiting = append(waiting, event)
		}
	}
	return waiting, nil
}

// BelieveEnds takes every end of the stream for the real one. It exists for the mutant that proves that tests notice.
func (p *Parking) BelieveEnds() { p.credulous = true }

// Lot returns every event in the lot, in order of position.
func (p *Parking) Lot() []outbox.ParkedEvent {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	var events []outbox.ParkedEvent
	for _, event := range p.log.lot.inOrder(func(*outbox.ParkedEvent) bool { return true }) {
		events = append(events, *event)
	}
	return events
}
