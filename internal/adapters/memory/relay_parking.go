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
	cursors *CursorStore
	log     *Log
}

var (
	_ relay.Parking           = (*Parking)(nil)
	_ operations.ParkingAdmin = (*Parking)(nil)
)

// NewParking returns the parking lot of the log that cursors uses.
func NewParking(cursors *CursorStore) *Parking { return &Parking{cursors: cursors, log: cursors.log} }

// lot holds the parked events of a Log, by position.
type lot map[outbox.Position]*relay.ParkedEvent

// inOrder returns the events for which choose is true, in order of position.
func (l lot) inOrder(choose func(*relay.ParkedEvent) bool) []*relay.ParkedEvent {
	var chosen []*relay.ParkedEvent
	for _, position := range slices.Sorted(maps.Keys(l)) {
		if choose(l[position]) {
			chosen = append(chosen, l[position])
		}
	}
	return chosen
}

func (l lot) waitsBefore(key outbox.Key, position outbox.Position) []*relay.ParkedEvent {
	return l.inOrder(func(e *relay.ParkedEvent) bool { return e.Key == key && e.Position < position && e.State.Waits() })
}

func (l lot) waiting() bool {
	return len(l.inOrder(func(e *relay.ParkedEvent) bool { return e.State.Waits() })) > 0
}

func (l lot) add(entry outbox.Entry, state relay.ParkedState, reason string) {
	if l[entry.Position] == nil {
		l[entry.Position] = &relay.ParkedEvent{
			Progress: entry.Progress(), Key: entry.Key, Type: entry.Type, Reason: reason, State: state,
			ParkedAt: time.Now(), ChangedAt: time.Now(),
		}
	}
}

func setState(event *relay.ParkedEvent, state relay.ParkedState, sequence uint64) {
	event.State, event.Sequence, event.ChangedAt = state, sequence, time.Now()
}

// write makes a fenced write to the lot.
func (p *Parking) write(ctx context.Context, fence relay.WriteFence, do func(lot)) error {
	return p.cursors.write(ctx, fence, func() {
		p.log.mu.Lock()
		defer p.log.mu.Unlock()
		do(p.log.lot)
	})
}

// Reconcile makes one fenced write.
func (p *Parking) Reconcile(
	ctx context.Context, fence relay.WriteFence, tail relay.MessageMeta, sequence uint64, end bool,
) (settled relay.ParkingSummary, err error) {
	err = p.write(ctx, fence, func(l lot) {
		if tail.Own && tail.Event == 0 && tail.Parked != "" {
			if entry := p.log.committed(tail.Progress.Position); entry != nil && entry.ID == tail.Progress.EventID {
				l.add(*entry, relay.Parked, tail.Parked)
			}
		}
		if last := l[tail.Event]; tail.Own && last != nil && last.State == relay.Redrive {
			arrived := l.inOrder(func(e *relay.ParkedEvent) bool {
				return e.Key == last.Key && e.Position <= last.Position && e.State == relay.Redrive && p.log.committed(e.Position) != nil
			})
			for i, event := range arrived {
				setState(event, relay.Redriven, sequence-uint64(len(arrived)-1-i))
			}
		}
		for _, event := range l {
			if event.State == relay.Redriven && event.Sequence > tail.MaxRedriven(sequence) {
				settled.Lost = true
				if end {
					setState(event, relay.Redrive, 0)
				}
			}
		}
		settled.Waiting = l.waiting()
	})
	return settled, err
}

// SetAside makes one fenced write.
func (p *Parking) SetAside(ctx context.Context, fence relay.WriteFence, entries []outbox.Entry) (aside []outbox.Position, err error) {
	err = p.write(ctx, fence, func(l lot) {
		for _, entry := range entries {
			if before := l.waitsBefore(entry.Key, entry.Position); len(before) > 0 {
				state := relay.Redrive
				if slices.ContainsFunc(before, func(e *relay.ParkedEvent) bool { return e.State == relay.Parked }) {
					state = relay.Parked
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

// Due returns the events of one aggregate that are to be redriven.
func (p *Parking) Due(ctx context.Context, upTo outbox.Position, limit relay.ReadLimit) (due []outbox.Entry, waiting bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	l, bytes := p.log.lot, 0
	ready := l.inOrder(func(e *relay.ParkedEvent) bool {
		blocked := slices.ContainsFunc(l.waitsBefore(e.Key, e.Position), func(b *relay.ParkedEvent) bool { return b.State == relay.Parked })
		return e.State == relay.Redrive && e.Position <= upTo && !blocked && p.log.committed(e.Position) != nil
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

// Refuse makes one fenced write.
func (p *Parking) Refuse(ctx context.Context, fence relay.WriteFence, entry outbox.Entry, reason string) error {
	return p.write(ctx, fence, func(l lot) {
		refused := l[entry.Position]
		if refused == nil || refused.State != relay.Redrive {
			return
		}
		refused.Reason = reason
		for _, event := range l {
			if event.Key == refused.Key && event.Position >= refused.Position && event.State == relay.Redrive {
				setState(event, relay.Parked, 0)
			}
		}
	})
}

// Redrive makes one change to the parking lot.
func (p *Parking) Redrive(ctx context.Context, key *outbox.Key) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	chosen := p.log.lot.inOrder(func(e *relay.ParkedEvent) bool {
		return e.State == relay.Parked && (key == nil || e.Key == *key)
	})
	for _, event := range chosen {
		setState(event, relay.Redrive, 0)
	}
	if key != nil && len(chosen) == 0 {
		return 0, relay.ErrNotParked.With("no event of %s is parked", key)
	}
	return len(chosen), nil
}

// Discard discards a parked event. It also discards an event that waits to be redriven, if the event's row of the log is gone.
func (p *Parking) Discard(ctx context.Context, position outbox.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	event := p.log.lot[position]
	if event == nil || event.State != relay.Parked && (event.State != relay.Redrive || p.log.committed(position) != nil) {
		return relay.ErrNotParked.With("no event is parked at position %d", position)
	}
	setState(event, relay.Discarded, 0)
	return nil
}

// Waiting returns the waiting events in order of position.
func (p *Parking) Waiting(ctx context.Context, limit int) ([]relay.ParkedEvent, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var waiting []relay.ParkedEvent
	for _, event := range p.Lot() {
		if event.State.Waits() && len(waiting) < limit {
			waiting = append(waiting, event)
		}
	}
	return waiting, nil
}

// Lot returns every event in the lot, in order of position.
func (p *Parking) Lot() []relay.ParkedEvent {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	var events []relay.ParkedEvent
	for _, event := range p.log.lot.inOrder(func(*relay.ParkedEvent) bool { return true }) {
		events = append(events, *event)
	}
	return events
}
