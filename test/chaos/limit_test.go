package chaos_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

const (
	// limitMessages is how many messages the limit leaves in the stream.
	limitMessages = 40
	// minUnseen is the number of messages beyond the limit that the subscriber has not seen when the limit is set.
	minUnseen = 20
	// maxWaiting is how many events may wait for the relay while the limit is on. If the relay published more than limitMessages at once, the
	// stream could remove messages that the test has not read.
	maxWaiting = 10
)

// removed keeps the messages that were removed from the stream. The checker reads them as if they were still there.
type removed struct {
	mu       sync.Mutex
	stream   time.Time // its creation time; a new stream has all events again
	messages map[uint64]checker.Message
}

// keep adds messages. If the stream is a new one, it first drops the messages of the former stream.
func (r *removed) keep(stream time.Time, messages map[uint64]checker.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !stream.Equal(r.stream) {
		r.stream, r.messages = stream, make(map[uint64]checker.Message)
	}
	maps.Copy(r.messages, messages)
}

// of returns what was removed from a stream, in order.
func (r *removed) of(stream time.Time) (all []checker.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !stream.Equal(r.stream) {
		return nil
	}
	for _, sequence := range slices.Sorted(maps.Keys(r.messages)) {
		all = append(all, r.messages[sequence])
	}
	return all
}

// with reads the stream together with the messages that were removed from it.
func (r *removed) with(ctx context.Context, js jetstream.JetStream) iter.Seq2[checker.Message, error] {
	return func(yield func(checker.Message, error) bool) {
		stream, err := js.Stream(ctx, "ORDERS")
		if err != nil {
			yield(checker.Message{}, err)
			return
		}
		gone := r.of(stream.CachedInfo().Created)
		for m, err := range checker.ReadStream(ctx, js, "ORDERS") {
			for len(gone) > 0 && err == nil && gone[0].Sequence <= m.Sequence {
				if gone[0].Sequence < m.Sequence && !yield(gone[0], nil) { // with the same sequence, the message is there again
					return
				}
				gone = gone[1:]
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// limitStream lets the stream remove messages before a subscriber has seen them. Meanwhile the subscriber is paused, frozen or stopped.
func (in *injector) limitStream(t *testing.T, f fault) func() {
	t.Helper()
	js, err := jetstream.New(in.nc)
	require.NoError(t, err)
	g, err := in.awaitSound(f)
	if err != nil {
		in.note("%s: no effect: %v", f.kind, err)
		return func() {}
	}
	resume := in.suspend(g, f)
	filled := in.filled(g)
	gone, err := in.removeUnseen(js, g, f)
	in.repairing.Unlock()
	in.note("%s: %d events that %s has not seen are gone: %v", f.kind, gone, g.id, err)
	return func() {
		resume()
		if gone > 0 {
			in.moving.Go(func() { in.awaitFilled(g, f, filled, gone) })
		}
	}
}

// awaitSound waits until no damage is being repaired and a subscriber has seen almost all of the stream. It returns with in.repairing locked, so
// that no damage begins. A damage can remove the stream's last messages. Until the subscriber notices this, the subscriber cannot know which
// messages a limit removes there.
func (in *injector) awaitSound(f fault) (*group, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout/2)
	defer cancel()
	for !in.repairing.TryLock() {
		if !pause(ctx, pollInterval) {
			return nil, errors.New("a damage is being repaired")
		}
	}
	for {
		for i := range in.groups {
			g, behind := in.groups[(f.number+uint64(i))%uint64(len(in.groups))], int64(0)
			err := in.db.QueryRowContext(ctx, "SELECT $2 - min(sequence) FROM subscriber_lanes WHERE subscriber = $1", g.id, int64(in.streamEnd())).Scan(&behind)
			if err == nil && behind >= 0 && behind < minUnseen {
				return g, nil
			}
		}
		if !pause(ctx, pollInterval) {
			in.repairing.Unlock()
			return nil, errors.New("every subscriber is behind")
		}
	}
}

// suspend pauses, freezes or stops a subscriber, and returns a function that resumes it.
func (in *injector) suspend(g *group, f fault) (resume func()) {
	each := func(do func(m *member)) {
		for _, m := range g.copies {
			in.hit[m] = true
			do(m)
		}
	}
	verb := func(verb string) func() ([]string, error) {
		return func() ([]string, error) { return []string{"subscriber", verb, "--id", g.id}, nil }
	}
	switch f.number >> 8 % 3 {
	case 0:
		in.note("%s: %s is paused", f.kind, g.id)
		in.retryCommand(f.kind, verb("pause"))
		return func() { in.moving.Go(func() { in.retryCommand(f.kind, verb("resume")) }) }
	case 1:
		in.note("%s: %s is frozen", f.kind, g.id)
		each(func(m *member) { m.signal(syscall.SIGSTOP, false) })
		return func() { each(func(m *member) { m.signal(syscall.SIGCONT, false) }) }
	default:
		in.note("%s: %s is stopped", f.kind, g.id)
		each((*member).stop)
		return func() {
			each(func(m *member) {
				if err := m.start(); err != nil {
					in.report("%s does not start: %v", m.name, err)
				}
			})
		}
	}
}

// removeUnseen removes messages by a limit, one by one, or both. It returns how many of the removed events the subscriber had not seen.
func (in *injector) removeUnseen(js jetstream.JetStream, g *group, f fault) (gone int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	var seen uint64 // the sequence of the lane that is farthest ahead
	if err := in.db.QueryRowContext(ctx, "SELECT max(sequence) FROM subscriber_lanes WHERE subscriber = $1", g.id).Scan(&seen); err != nil {
		return 0, err
	}
	r := &record{js: js, messages: make(map[uint64]checker.Message), next: 1}
	for waiting := true; waiting; waiting = in.streamEnd() < seen+limitMessages+minUnseen || in.waiting(ctx, r) >= maxWaiting {
		if err := r.follow(ctx); err != nil {
			return 0, err
		}
		if !pause(ctx, pollInterval) {
			return 0, errors.New("too few messages came")
		}
	}
	if err := r.follow(ctx); err != nil {
		return 0, err
	}
	how := f.number >> 16 % 3
	if how != 0 {
		if err := in.limit(ctx, r, f.hold); err != nil {
			return 0, err
		}
	}
	var deleted []uint64
	if how != 1 {
		if deleted, err = r.removeSome(ctx, seen, f.number>>24); err != nil {
			return 0, err
		}
	}
	return in.keepRemoved(ctx, r, seen, deleted)
}

// limit sets the limit for a while.
func (in *injector) limit(ctx context.Context, r *record, hold time.Duration) error {
	set := func(most int64) error {
		stream, err := r.js.Stream(ctx, "ORDERS")
		if err != nil {
			return err
		}
		config := stream.CachedInfo().Config
		config.MaxMsgs = most
		_, err = r.js.UpdateStream(ctx, config)
		return err
	}
	err := set(limitMessages)
	for end := time.Now().Add(hold); err == nil && time.Now().Before(end) && in.waiting(ctx, r) < maxWaiting; pause(ctx, 5*time.Millisecond) {
		err = r.follow(ctx)
	}
	for set(-1) != nil {
		if !pause(ctx, pollInterval) {
			return errors.New("the limit cannot be removed")
		}
	}
	return errors.Join(err, r.follow(ctx))
}

// keepRemoved keeps the removed messages for the checker. It returns how many of their events the subscriber had not seen.
func (in *injector) keepRemoved(ctx context.Context, r *record, seen uint64, deleted []uint64) (gone int, err error) {
	stream, err := r.js.Stream(ctx, "ORDERS")
	if err != nil {
		return 0, err
	}
	first := stream.CachedInfo().State.FirstSeq
	if first > r.next {
		in.report("the limit has removed messages that the test has not read: %d to %d", r.next, first-1)
	}
	kept := make(map[uint64]checker.Message)
	for sequence, m := range r.messages {
		if sequence >= first && !slices.Contains(deleted, sequence) {
			continue
		}
		if kept[sequence] = m; sequence > seen && strings.HasPrefix(m.Subject, "orders.") {
			gone++
		}
	}
	in.removed.keep(stream.CachedInfo().Created, kept)
	in.note("the stream begins with %d; %d messages were removed from it, %v of them one by one; %d was seen", first, len(kept), deleted, seen)
	return gone, nil
}

// waiting returns how many events the log has after the last position that the test has read from the stream, at most maxWaiting.
func (in *injector) waiting(ctx context.Context, r *record) (count int) {
	if in.db.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT FROM outbox WHERE position > $1 LIMIT $2) AS more", r.progress, maxWaiting).Scan(&count) != nil {
		return maxWaiting
	}
	return count
}

// filled returns how many events a subscriber took from the log because the stream had removed them.
func (h *harness) filled(g *group) (count int) {
	_ = h.db.QueryRow("SELECT filled FROM subscribers WHERE subscriber = $1", g.id).Scan(&count) // zero after an error: the caller asks again
	return count
}

// awaitFilled waits until the subscriber has taken removed events from the log.
func (in *injector) awaitFilled(g *group, f fault, before, gone int) {
	for end := time.Now().Add(4 * waitTimeout); time.Now().Before(end); pause(context.Background(), 100*time.Millisecond) {
		if now := in.filled(g); now > before {
			in.tookEffect(f.kind)
			in.note("%s has %d events from the log, and had %d; %d were removed", g.id, now, before, gone)
			return
		}
	}
	in.report("%s: %s has not noticed that %d events were removed which it had not seen", f.kind, g.id, gone)
}

// streamEnd returns the sequence of the stream's last message; 0: it is not known.
func (h *harness) streamEnd() uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	js, err := jetstream.New(h.nc)
	if err != nil {
		return 0
	}
	stream, err := js.Stream(ctx, "ORDERS")
	if err != nil {
		return 0
	}
	return stream.CachedInfo().State.LastSeq
}

// record holds what the test has read of the stream.
type record struct {
	js       jetstream.JetStream
	messages map[uint64]checker.Message
	next     uint64
	progress int64 // the last position that the stream had
}

// follow reads the stream from r.next to its end.
func (r *record) follow(ctx context.Context) error {
	for m, err := range checker.ReadStreamFrom(ctx, r.js, "ORDERS", r.next) {
		if err != nil {
			return err
		}
		r.messages[m.Sequence], r.next = m, m.Sequence+1
		r.progress = max(r.progress, m.Position)
	}
	return nil
}

// removeSome removes a few messages one by one that the subscriber has not seen, but none of the last ones.
func (r *record) removeSome(ctx context.Context, seen, number uint64) (deleted []uint64, err error) {
	stream, err := r.js.Stream(ctx, "ORDERS")
	if err != nil {
		return nil, err
	}
	from, until := max(seen+1, stream.CachedInfo().State.FirstSeq), stream.CachedInfo().State.LastSeq-limitMessages/3
	for sequence := from + number%7; sequence < until && len(deleted) < 6; sequence += 1 + number>>(4*len(deleted))%9 {
		if _, known := r.messages[sequence]; known {
			if err := stream.DeleteMsg(ctx, sequence); err != nil {
				return deleted, err
			}
			deleted = append(deleted, sequence)
		}
	}
	return deleted, nil
}
