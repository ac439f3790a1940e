package ordering

import (
	"context"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	maxEvents   = 100             // that an order can have, and more
	findTimeout = 2 * time.Second // at most: where it does not answer, the relay's cursor has to do
)

// Events implements the port. Only the stream itself proves that an event was published: the relay saves its cursor once a
// second, and an operator may have moved it on.
func (s *Service) Events(ctx context.Context, id order.ID) ([]orders.Event, error) {
	if _, err := s.Get(ctx, id); err != nil {
		return nil, err
	}
	listed, err := s.ports.Log.List(ctx, operations.EventFilter{
		Aggregate: outbox.Key{Type: orders.AggregateType, ID: string(id)}, Limit: maxEvents,
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(listed) // the newest came first
	patient, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	events := make([]orders.Event, len(listed))
	for i, entry := range listed {
		events[i] = s.locate(patient, entry)
	}
	return events, ctx.Err()
}

// locate says where an entry of the log stands.
func (s *Service) locate(ctx context.Context, entry operations.ListedEvent) orders.Event {
	event := orders.Event{Entry: entry.Entry, Reason: entry.Reason}
	switch state := relay.ParkedState(entry.State); {
	case state.Waits():
		event.Delivery = orders.Parked
		return event
	case state == relay.Discarded:
		event.Delivery = orders.Discarded
		return event
	}
	stored, err := s.ports.Finder.Find(ctx, entry.Progress(), entry.Sequence)
	switch {
	case err == nil: // anything else, an outage too, proves nothing
		event.Delivery, event.PublishedAt = orders.Published, stored
	case entry.State == operations.Unpublished, entry.State == operations.Misplaced:
		event.Delivery = orders.Pending
	default:
		event.Delivery = orders.Passed
	}
	return event
}
