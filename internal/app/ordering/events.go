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
	maxEvents   = 100             // more than an order can have
	findTimeout = 2 * time.Second // if the broker does not answer in this time, the relay's cursor decides
)

// Events asks the stream whether it holds each event. The relay's cursor alone is no proof: the relay saves it once a second, and an
// operator may have moved it.
func (s *Service) Events(ctx context.Context, who order.Principal, id order.ID) ([]orders.Event, error) {
	if _, err := s.Get(ctx, who, id); err != nil {
		return nil, err
	}
	listed, err := s.ports.Log.List(ctx, operations.EventFilter{
		Aggregate: outbox.Key{Type: orders.AggregateType, ID: string(id)}, Limit: maxEvents,
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(listed) // List returns the newest first
	bounded, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	events := make([]orders.Event, len(listed))
	for i, entry := range listed {
		events[i] = s.locate(bounded, entry)
	}
	return events, ctx.Err()
}

// locate returns an entry of the log and its state of delivery.
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
	case err == nil: // any error, for example of an outage, does not prove that the stream lacks the event
		event.Delivery, event.PublishedAt = orders.Published, stored
	case entry.State == operations.Unpublished, entry.State == operations.Misplaced:
		event.Delivery = orders.Pending
	default:
		event.Delivery = orders.Passed
	}
	return event
}
