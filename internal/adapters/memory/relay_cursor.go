package memory

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// CursorStore keeps a cursor that is fenced by a Lease. The lease's mutex guards the cursor.
type CursorStore struct {
	lease  *Lease
	log    *Log
	cursor relay.Cursor
}

var (
	_ relay.CursorStore = (*CursorStore)(nil)
	_ relay.Retention   = (*CursorStore)(nil)
)

// NewCursorStore returns a store without a cursor.
func NewCursorStore(lease *Lease, log *Log) *CursorStore { return &CursorStore{lease: lease, log: log} }

// Edit changes the cursor as an operator does, without the lease and while the relay runs.
func (s *CursorStore) Edit(edit func(*relay.Cursor)) {
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	edit(&s.cursor)
	s.cursor.Revision++
	s.cursor.RecordedTo = s.log.adopted(s.cursor)
}

// Load returns the cursor without RecordedTo.
func (s *CursorStore) Load(ctx context.Context) (relay.Cursor, error) {
	if err := ctx.Err(); err != nil {
		return relay.Cursor{}, err
	}
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	cursor := s.present()
	cursor.RecordedTo = time.Time{} // only Save returns it
	return cursor, nil
}

func (s *CursorStore) present() relay.Cursor {
	cursor := s.cursor
	cursor.EventID, cursor.PurgedTo = s.log.at(cursor.Position)
	return cursor
}

// Save refuses a cursor if events were committed at positions that the relay had already passed.
func (s *CursorStore) Save(ctx context.Context, fence relay.WriteFence, cursor relay.Cursor) (saved relay.Cursor, err error) {
	err = s.writeIf(ctx, fence, func() error {
		recorded, err := s.log.save(cursor)
		if err != nil {
			return err
		}
		s.cursor.Progress, s.cursor.StreamCreated, s.cursor.StreamSequence = cursor.Progress, cursor.StreamCreated, cursor.StreamSequence
		s.cursor.RecordedTo = recorded
		saved = s.present()
		return nil
	})
	return saved, err
}

// Report records a halt, or ends the halt if halt is nil.
func (s *CursorStore) Report(ctx context.Context, fence relay.WriteFence, halt *relay.Halt) error {
	return s.write(ctx, fence, func() { s.cursor.Halt = halt })
}

// write makes a fenced write.
func (s *CursorStore) write(ctx context.Context, fence relay.WriteFence, do func()) error {
	return s.writeIf(ctx, fence, func() error {
		do()
		return nil
	})
}

// writeIf makes a fenced write. If do fails, nothing is written.
func (s *CursorStore) writeIf(ctx context.Context, fence relay.WriteFence, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	if err := s.lease.holds(fence.Token); err != nil {
		return err
	}
	if fence.Revision != s.cursor.Revision {
		return relay.ErrStaleRevision
	}
	s.cursor.Revision++
	if err := do(); err != nil {
		s.cursor.Revision--
		return err
	}
	return nil
}

// Purge checks the lease, but no revision.
func (s *CursorStore) Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	if err := s.lease.holds(token); err != nil {
		return 0, err
	}
	return s.log.purgeOld(s.cursor.Position, time.Now().Add(-age), limit), nil
}
