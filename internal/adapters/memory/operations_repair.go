package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

var _ operations.RelayRepair = (*CursorStore)(nil)

// Cursor returns the same as Load.
func (s *CursorStore) Cursor(ctx context.Context) (relay.Cursor, error) { return s.Load(ctx) }

// HasEvents returns the elements of places whose events the log has.
func (s *CursorStore) HasEvents(_ context.Context, places []outbox.Progress) ([]outbox.Progress, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	var held []outbox.Progress
	for _, place := range places {
		if entry := s.log.committed(place.Position); entry != nil && entry.ID == place.EventID {
			held = append(held, place)
		}
	}
	slices.SortFunc(held, func(a, b outbox.Progress) int { return cmp.Compare(a.Position, b.Position) })
	return held, nil
}

// At returns the event at a position.
func (s *CursorStore) At(_ context.Context, position outbox.Position) (outbox.Progress, bool, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if entry := s.log.committed(position); entry != nil {
		return entry.Progress(), true, nil
	}
	return outbox.Progress{}, false, nil
}

// CountAfter counts the entries after a position that are not parked.
func (s *CursorStore) CountAfter(_ context.Context, position outbox.Position) (int64, error) {
	behind := int64(0)
	readable := s.log.Readable()
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for _, entry := range readable {
		if entry.Position > position && s.log.lot[entry.Position] == nil {
			behind++
		}
	}
	return behind, nil
}

// Adopt checks the revision, but no lease.
func (s *CursorStore) Adopt(_ context.Context, revision int64, cursor relay.Cursor, _ bool) error {
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	if s.cursor.Revision != revision {
		return relay.ErrStaleRevision
	}
	s.cursor = cursor
	s.cursor.Revision = revision + 1
	s.cursor.RecordedTo = s.log.adopted(cursor)
	return nil
}
