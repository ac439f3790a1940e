package relaytest

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The events of the suites. A stream under test has the subjects that begin with SubjectPrefix, and no others.
const (
	EventType     = "outboxie.test.happened.v1"
	AggregateType = "thing"
	SubjectPrefix = "things."
)

// NewMessage returns a valid message with a new id.
func NewMessage(aggregateID string, version int64) outbox.Message {
	var id [16]byte
	_, _ = rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return outbox.Message{
		ID:      fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		Type:    EventType,
		Subject: SubjectPrefix + "happened",
		Key:     outbox.Key{Type: AggregateType, ID: aggregateID},
		Version: version,
		Payload: []byte(`{"test": true}`),
	}
}

func logFollow(t *testing.T, h LogHarness) {
	require.Empty(t, FollowWriters(t, h))
}

const (
	writerCount     = 32
	transactions    = 25 // of each writer
	aggregatesCount = 100
)

// writerGroup is the state that the writers of FollowWriters share.
type writerGroup struct {
	h          LogHarness
	aggregates [aggregatesCount]struct {
		sync.Mutex // held until after the commit, like the lock of a saved aggregate
		version    int64
	}
	mu        sync.Mutex
	committed []string
}

// FollowWriters lets one reader follow 32 concurrent writers that pause, roll back and commit out of order. It returns the reader's errors:
// events that were lost, doubled, out of order, or never committed. FollowWriters is exported for tests of broken logs. If a log does not
// wait for open transactions, FollowWriters must return at least one error.
func FollowWriters(t *testing.T, h LogHarness) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seed := mathrand.Uint64() // not logged: timing matters too, so a seed would not repeat the test

	shared := &writerGroup{h: h}
	failures := make(chan error, writerCount)
	var writers sync.WaitGroup
	for i := range uint64(writerCount) {
		writers.Go(func() {
			random := mathrand.New(mathrand.NewPCG(seed, i))
			for range transactions {
				if err := shared.transact(ctx, random); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { writers.Wait(); close(finished) }()
	entries, err := follow(ctx, h, finished, mathrand.New(mathrand.NewPCG(seed, writerCount)))
	<-finished
	close(failures)
	for failure := range failures {
		require.NoError(t, failure)
	}
	wrong := findErrors(entries, shared.committed)
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	return wrong
}

// transact appends to one to three aggregates, with pauses, and commits three times out of four.
func (c *writerGroup) transact(ctx context.Context, random *mathrand.Rand) error {
	chosen := make([]int, 1+random.IntN(3))
	for i := range chosen {
		chosen[i] = random.IntN(aggregatesCount)
	}
	slices.Sort(chosen) // in one order for all writers, to avoid deadlocks
	chosen = slices.Compact(chosen)
	for _, i := range chosen {
		c.aggregates[i].Lock()
		defer c.aggregates[i].Unlock()
	}
	writer, err := c.h.Begin(ctx)
	if err != nil {
		return err
	}
	defer writer.Rollback()
	var mine []string
	for _, i := range chosen {
		message := NewMessage(fmt.Sprint(i), c.aggregates[i].version+1)
		if err := writer.Append(ctx, message); err != nil {
			return err
		}
		mine = append(mine, message.ID)
		time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
	}
	if random.IntN(20) == 0 {
		time.Sleep(30 * time.Millisecond) // so that many later transactions commit first
	}
	if random.IntN(4) == 0 {
		return nil
	}
	if err := writer.Commit(); err != nil {
		return err
	}
	for _, i := range chosen {
		c.aggregates[i].version++
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committed = append(c.committed, mine...)
	return nil
}

// follow reads pages of random sizes until the writers have finished and the log ends.
func follow(
	ctx context.Context, h LogHarness, finished <-chan struct{}, random *mathrand.Rand,
) (entries []outbox.Entry, err error) {
	var from outbox.Progress
	for {
		over := false
		select {
		case <-finished:
			over = true
		default:
		}
		page, err := h.Log().After(ctx, from, relay.ReadLimit{Count: 1 + random.IntN(60), Bytes: 1 + random.IntN(2000)})
		switch {
		case err != nil:
			return entries, err
		case len(page.Entries) > 0:
			entries = append(entries, page.Entries...)
			from = entries[len(entries)-1].Progress()
		case over:
			return entries, nil
		default:
			time.Sleep(time.Millisecond)
		}
	}
}

// findErrors returns what is wrong with entries, given the ids of the committed events.
func findErrors(entries []outbox.Entry, committed []string) (wrong []string) {
	seen := make(map[string]int)
	versions := make(map[outbox.Key]int64)
	var last outbox.Position
	for _, entry := range entries {
		seen[entry.ID]++
		if entry.Position <= last {
			wrong = append(wrong, fmt.Sprintf("position %d after %d", entry.Position, last))
		}
		last = entry.Position
		if entry.Version != versions[entry.Key]+1 {
			wrong = append(wrong, fmt.Sprintf("%s: version %d after %d", entry.Key, entry.Version, versions[entry.Key]))
		}
		versions[entry.Key] = entry.Version
	}
	for _, id := range committed {
		switch seen[id] {
		case 0:
			wrong = append(wrong, "lost: "+id)
		case 1:
		default:
			wrong = append(wrong, "doubled: "+id)
		}
		delete(seen, id)
	}
	for id := range seen {
		wrong = append(wrong, "never committed: "+id)
	}
	return wrong
}
