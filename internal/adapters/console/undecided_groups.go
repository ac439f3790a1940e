package console

import (
	"context"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const (
	// groupsKept is how long viewers share groups. It takes some tenths of a second to group 100,000 events.
	groupsKept = 5 * time.Second
	// groupsTimeout bounds how long the events are grouped.
	groupsTimeout = 30 * time.Second
	// maxGroupsKept is for how many subscribers groups are kept.
	maxGroupsKept = 64
)

// sharedGroups keeps groups for a short time, so that the database groups events once for all viewers. Viewers who ask at the same time wait for
// the same groups. It is safe for concurrent use.
type sharedGroups struct {
	closed <-chan struct{} // ends what is in progress

	mu   sync.Mutex
	kept map[string]*keptGroups
}

// keptGroups are the groups of one subscriber, or of the parking lot.
type keptGroups struct {
	began time.Time
	ready chan struct{} // closed when the fields below are set
	ended time.Time
	operations.Groups
	err error
}

func newSharedGroups(closed <-chan struct{}) *sharedGroups {
	return &sharedGroups{closed: closed, kept: make(map[string]*keptGroups)}
}

// read returns the groups of a name. Read calls group if it keeps none. age is how old kept groups are; 0: they are new.
func (s *sharedGroups) read(
	ctx context.Context, name string, group func(ctx context.Context) (operations.Groups, error),
) (groups operations.Groups, age time.Duration, err error) {
	now := time.Now()
	s.mu.Lock()
	found := s.kept[name]
	if found == nil || found.expired(now) {
		found = &keptGroups{began: now, ready: make(chan struct{})}
		s.makeRoom(now)
		s.kept[name] = found
		go s.fill(context.WithoutCancel(ctx), name, found, group) // other viewers may wait for it too
	} else if found.isReady() {
		age = now.Sub(found.began)
	}
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return operations.Groups{}, 0, ctx.Err()
	case <-found.ready:
		return found.Groups, age, found.err
	}
}

// fill groups the events. It does not keep an error.
func (s *sharedGroups) fill(ctx context.Context, name string, into *keptGroups, group func(ctx context.Context) (operations.Groups, error)) {
	ctx, cancel := context.WithTimeout(ctx, groupsTimeout)
	defer cancel()
	go func() {
		select {
		case <-s.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	groups, err := group(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	into.Groups, into.err, into.ended = groups, err, time.Now()
	if err != nil && s.kept[name] == into {
		delete(s.kept, name)
	}
	close(into.ready)
}

// forget drops the groups of a name, because an action has changed its events.
func (s *sharedGroups) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, name)
}

// makeRoom drops expired groups. If there are still too many, it drops the oldest.
func (s *sharedGroups) makeRoom(now time.Time) {
	oldest := ""
	for name, groups := range s.kept {
		if groups.expired(now) {
			delete(s.kept, name)
		} else if oldest == "" || groups.began.Before(s.kept[oldest].began) {
			oldest = name
		}
	}
	if len(s.kept) >= maxGroupsKept {
		delete(s.kept, oldest)
	}
}

func (g *keptGroups) isReady() bool {
	select {
	case <-g.ready:
		return true
	default:
		return false
	}
}

func (g *keptGroups) expired(now time.Time) bool {
	return g.isReady() && now.Sub(g.ended) >= groupsKept
}
