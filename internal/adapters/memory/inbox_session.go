package memory

import (
	"context"
	"time"
)

// session is one transaction of an Inbox, at READ COMMITTED: each of its statements sees what is committed at that moment, no other
// transaction sees its changes before its commit, and the rows that it locks are locked until it ends. It is not safe for concurrent use.
type session struct {
	inbox    *Inbox
	restarts int         // restarts of the database when the transaction began
	ended    error       // why the transaction has ended; nil: it is open
	resting  bool        // no statement is under way
	rests    int         // how often the transaction has been resting
	idle     *time.Timer // ends the transaction if it is idle for too long
	waitsFor *session
	changes  []func()  // that the commit makes, in order
	writers  []*Writer // of the log
}

// open begins a transaction.
func (i *Inbox) open(ctx context.Context) (*session, error) {
	s, err := i.connect(ctx)
	if err == nil {
		s.endStatement(ctx, "begin")
	}
	return s, err
}

// connect returns a transaction that has not begun yet.
func (i *Inbox) connect(ctx context.Context) (*session, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if i.down {
		return nil, errDisconnected
	}
	return &session{inbox: i, restarts: i.restarts}, nil
}

// usable returns nil if the transaction can run a statement, and otherwise the reason.
func (s *session) usable(ctx context.Context) error {
	if s.ended == nil && s.restarts != s.inbox.restarts {
		s.end(errDisconnected)
	}
	if s.ended != nil {
		return s.ended
	}
	return ctx.Err()
}

// end rolls the transaction back and frees its rows, unless it has ended already.
func (s *session) end(reason error) {
	if s.ended != nil {
		return
	}
	s.ended = reason
	s.undo(0)
	for key, holder := range s.inbox.locks {
		if holder == s {
			delete(s.inbox.locks, key)
		}
	}
	for _, holders := range s.inbox.shares {
		delete(holders, s)
	}
	if s.inbox.freed != nil {
		close(s.inbox.freed)
		s.inbox.freed = nil
	}
}

// undo rolls back the writers from an index on. A writer that has committed keeps its rows.
func (s *session) undo(from int) {
	for _, writer := range s.writers[from:] {
		writer.Rollback()
	}
	s.writers = s.writers[:from]
}

// close ends the transaction when its caller is done with it.
func (s *session) close() {
	s.beginStatement()
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	s.end(errTransactionOver)
}

// beginStatement begins a statement.
func (s *session) beginStatement() {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	s.resting = false
	if s.idle != nil {
		s.idle.Stop()
	}
}

// endStatement ends a statement, and lets other goroutines run. From now on the transaction is idle. The database ends it if the caller
// takes too long until the next statement.
func (s *session) endStatement(ctx context.Context, step string) {
	s.inbox.mu.Lock()
	s.resting = true
	s.rests++
	if timeout, rest := s.inbox.IdleTimeout, s.rests; timeout > 0 {
		s.idle = time.AfterFunc(timeout, func() { s.expire(rest) })
	}
	s.inbox.mu.Unlock()
	s.inbox.pause(ctx, step)
}

// expire ends the transaction if it is still idle since the rest with this number. The timer of an earlier rest may call expire late.
func (s *session) expire(rest int) {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	if s.resting && s.rests == rest {
		s.end(errIdle)
	}
}

// do runs a statement, which sees what is committed.
func (s *session) do(ctx context.Context, step string, statement func() error) error {
	s.beginStatement()
	s.inbox.mu.Lock()
	err := s.usable(ctx)
	if err == nil {
		err = statement()
	}
	s.inbox.mu.Unlock()
	if err == nil {
		s.endStatement(ctx, step)
	}
	return err
}

// change adds a change that the commit makes.
func (s *session) change(change func()) { s.changes = append(s.changes, change) }

// commit makes all changes at once, or none of them.
func (s *session) commit(ctx context.Context) error {
	s.beginStatement()
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	err := s.inbox.conclude(func() error {
		for _, change := range s.changes {
			change()
		}
		return nil
	})
	s.end(errTransactionOver)
	return err
}

// lock locks a row, even one that does not exist. It waits for the transactions that hold the row or a share of it.
func (s *session) lock(ctx context.Context, key any) error {
	return s.await(ctx, key, s.locks)
}

// share takes a share of a row. It waits for the transaction that holds the row.
func (s *session) share(ctx context.Context, key any) error {
	return s.await(ctx, key, func(key any) bool {
		if holder := s.inbox.locks[key]; holder != nil && holder != s {
			return false
		}
		if s.inbox.shares[key] == nil {
			s.inbox.shares[key] = make(map[*session]bool)
		}
		s.inbox.shares[key][s] = true
		return true
	})
}

// await waits until take has locked a row. In a deadlock, await ends the transaction.
func (s *session) await(ctx context.Context, key any, take func(key any) bool) error {
	s.beginStatement()
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	for {
		if err := s.usable(ctx); err != nil {
			return err
		}
		if take(key) {
			return nil
		}
		s.waitsFor = s.inbox.holder(key, s)
		for other := s.waitsFor; other != nil; other = other.waitsFor {
			if other == s {
				s.end(errDeadlock)
				return errDeadlock
			}
		}
		s.inbox.awaitFreed(ctx)
		s.waitsFor = nil
	}
}

// locks locks a row unless another transaction holds the row. It reports whether it has locked the row.
func (s *session) locks(key any) bool {
	if s.inbox.holder(key, s) != nil {
		return false
	}
	s.inbox.locks[key] = s
	return true
}

// holder returns a transaction, other than s, that holds a row or a share of it.
func (i *Inbox) holder(key any, s *session) *session {
	if holder := i.locks[key]; holder != nil && holder != s {
		return holder
	}
	for holder := range i.shares[key] {
		if holder != s {
			return holder
		}
	}
	return nil
}

// awaitFreed waits until a transaction has ended.
func (i *Inbox) awaitFreed(ctx context.Context) {
	if i.freed == nil {
		i.freed = make(chan struct{})
	}
	freed := i.freed
	i.mu.Unlock()
	defer i.mu.Lock()
	select {
	case <-freed:
	case <-ctx.Done():
	}
}

// pause lets other goroutines run between two steps of a transaction.
func (i *Inbox) pause(ctx context.Context, step string) {
	if i.OnStep != nil {
		i.OnStep(ctx, step)
	}
}

// Disconnect breaks every open transaction, which frees its rows, and lets none begin until Reconnect.
func (i *Inbox) Disconnect() {
	i.database.Disconnect()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, holder := range i.locks {
		holder.end(errDisconnected)
	}
	for _, holders := range i.shares {
		for holder := range holders {
			holder.end(errDisconnected)
		}
	}
}
