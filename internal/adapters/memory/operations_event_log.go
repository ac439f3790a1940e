package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.EventLog = (*CursorStore)(nil)

// List leaves out a payload for which the list has no room, and then all later payloads.
func (s *CursorStore) List(ctx context.Context, filter operations.EventFilter) ([]operations.ListedEvent, error) {
	cursor, err := s.Load(ctx)
	if err != nil {
		return nil, err
	}
	entries := s.log.Readable()
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	var found []operations.ListedEvent
	left := operations.MaxListedBytes
	for _, entry := range slices.Backward(entries) {
		item := s.state(entry, cursor.Position)
		if !listed(item, filter) || len(found) >= filter.Limit {
			continue
		}
		item.Payload = nil
		switch size := len(entry.Payload); {
		case !filter.Payloads:
		case size > operations.MaxListedPayload:
			item.Omitted = fmt.Sprintf("it takes more than %d bytes", operations.MaxListedPayload)
		case size > left:
			item.Omitted, left = fmt.Sprintf("this list has %d bytes of payloads already", operations.MaxListedBytes), 0
		default:
			item.Payload, left = entry.Payload, left-size
		}
		found = append(found, item)
	}
	return found, nil
}

// state returns an entry with its state. The relay has dealt with every event up to position.
func (s *CursorStore) state(entry outbox.Entry, position outbox.Position) operations.ListedEvent {
	item := operations.ListedEvent{Entry: entry, State: operations.Unpublished}
	if entry.Position <= position {
		item.State = operations.Published
	}
	if s.log.misplaced(entry) {
		item.State = operations.Misplaced
	}
	if parked := s.log.lot[entry.Position]; parked != nil {
		item.State, item.Reason, item.Sequence = string(parked.State), parked.Reason, parked.Sequence
	}
	return item
}

func listed(entry operations.ListedEvent, filter operations.EventFilter) bool {
	return (filter.Position == 0 || entry.Position == filter.Position) &&
		(filter.Before == 0 || entry.Position < filter.Before) &&
		(filter.State == "" || entry.State == filter.State) &&
		(filter.Aggregate.Type == "" || entry.Key.Type == filter.Aggregate.Type) &&
		(filter.Aggregate.ID == "" || entry.Key.ID == filter.Aggregate.ID) &&
		(filter.Type == "" || entry.Type == filter.Type) &&
		!entry.RecordedAt.Before(filter.Since)
}
