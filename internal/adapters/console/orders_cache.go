package console

import (
	"context"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
)

const (
	// journeyAge is how long viewers of an order share what was read. Live parts ask about once a second.
	journeyAge = 900 * time.Millisecond
	// maxJourneys is how many orders the cache holds.
	maxJourneys = 100
	// journeyTimeout bounds a read. It does not end with the viewer who caused it, because others may wait for it too.
	journeyTimeout = 10 * time.Second
)

// journeyCache shares what was read about an order among its viewers. It is safe for concurrent use.
type journeyCache struct {
	mu   sync.Mutex
	kept map[order.ID]*cachedJourney
}

type cachedJourney struct {
	read     chan struct{} // closed when the fields below have their values
	at       time.Time     // when the read ended; guarded by the cache's mutex; zero: it goes on
	journeys orderJourney
	err      error
}

func newJourneyCache() *journeyCache {
	return &journeyCache{kept: make(map[order.ID]*cachedJourney)}
}

// get returns what read returned less than journeyAge ago. If a read of the order goes on, get waits for it. Otherwise get calls read.
func (j *journeyCache) get(
	ctx context.Context, id order.ID, read func(ctx context.Context, id order.ID) (orderJourney, error),
) (orderJourney, error) {
	shared, mine := j.entry(id, time.Now())
	if mine {
		j.fill(ctx, id, shared, read)
	}
	select {
	case <-shared.read:
		return shared.journeys, shared.err
	case <-ctx.Done():
		return orderJourney{}, ctx.Err()
	}
}

// entry returns the entry of an order. If mine is true, the entry is new and the caller fills it.
func (j *journeyCache) entry(id order.ID, now time.Time) (shared *cachedJourney, mine bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if known, found := j.kept[id]; found && !known.old(now) {
		return known, false
	}
	if _, found := j.kept[id]; !found && len(j.kept) >= maxJourneys {
		j.makeRoom(now)
	}
	shared = &cachedJourney{read: make(chan struct{})}
	j.kept[id] = shared
	return shared, true
}

func (c *cachedJourney) old(now time.Time) bool { return !c.at.IsZero() && now.Sub(c.at) >= journeyAge }

// makeRoom removes what is old. If nothing is old, it removes any one entry; those who wait for the entry still get its value.
func (j *journeyCache) makeRoom(now time.Time) {
	for id, known := range j.kept {
		if known.old(now) {
			delete(j.kept, id)
		}
	}
	for id := range j.kept {
		if len(j.kept) < maxJourneys {
			return
		}
		delete(j.kept, id)
	}
}

// fill reads, and ends the wait of the other viewers, even if read panics.
func (j *journeyCache) fill(
	ctx context.Context, id order.ID, mine *cachedJourney, read func(ctx context.Context, id order.ID) (orderJourney, error),
) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), journeyTimeout)
	defer cancel()
	mine.err = context.Canceled // what the others get if read panics
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		mine.at = time.Now()
		close(mine.read)
	}()
	mine.journeys, mine.err = read(bounded, id)
}

// forget lets the next viewer of an order read it again.
func (j *journeyCache) forget(id order.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.kept, id)
}
