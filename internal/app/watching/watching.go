// Package watching watches the relay and its subscribers for people who look at them. A Watcher reads their state at intervals, keeps the
// last five minutes in memory, and gives all viewers of the process the same reading. So a viewer costs the database nothing, and a process
// that nobody looks at asks the database only every IdleEvery.
package watching

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const (
	// IdleEvery is the time between two readings while nobody watches.
	IdleEvery = 30 * time.Second
	// WatchedEvery is the time between two readings while somebody watches. If a reading takes long, the next one comes later.
	WatchedEvery = time.Second
	// History is how long readings are kept.
	History = 5 * time.Minute
	// maxLeaders is how many changes of the leader are kept.
	maxLeaders = 20
	// restAfter is how much longer than a reading the time before the next one is.
	restAfter = 3
	// readTimeout bounds a reading.
	readTimeout = 5 * time.Second
)

// Ports are what a Watcher reads.
type Ports struct {
	Relay       operations.RelayInspector
	Subscribers operations.SubscriberAdmin
	Processes   operations.ConnectedProcesses
}

// Watcher reads the state.
type Watcher struct {
	ports Ports
	wake  chan struct{} // somebody begins to watch

	mu       sync.Mutex
	view     operations.View
	watchers int
	changed  chan struct{} // closed when view changes
}

var _ operations.Watcher = (*Watcher)(nil)

// New returns a Watcher that reads nothing until Run.
func New(ports Ports) *Watcher {
	return &Watcher{ports: ports, wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Run reads the state until ctx ends, and returns nil. An outage does not end Run.
func (w *Watcher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		began := time.Now()
		w.read(ctx)
		w.rest(ctx, time.Since(began))
	}
	return nil
}

// Watch begins to watch, and returns a function that ends it. While somebody watches, the readings come every WatchedEvery.
func (w *Watcher) Watch() (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watchers++
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.watchers--
	})
}

// View returns the newest reading with the history, and a channel that is closed when there is a newer one. The caller does not change the
// view.
func (w *Watcher) View() (view operations.View, newer <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view, w.changed
}

// rest waits until the next reading is due.
func (w *Watcher) rest(ctx context.Context, took time.Duration) {
	began := time.Now()
	for {
		wait := IdleEvery
		if w.watched() {
			wait = WatchedEvery
		}
		timer := time.NewTimer(max(wait, restAfter*took) - time.Since(began))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			return
		case <-w.wake:
			timer.Stop()
		}
	}
}

func (w *Watcher) watched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watchers > 0
}

// read reads the state once.
func (w *Watcher) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	status, err := w.ports.Relay.Status(ctx)
	subscribers, failed := w.ports.Subscribers.Summaries(ctx, status.Sequence)
	processes, unknown := w.ports.Processes.Processes(ctx)
	var forbidden error // the rest of a reading is shown all the same
	if errors.Is(failed, operations.ErrNoRight) {
		forbidden, failed = failed, nil
	}
	err = errors.Join(err, failed, unknown)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.view.Err = err; err == nil {
		w.add(operations.Reading{At: time.Now(), Relay: status, Subscribers: subscribers, Processes: processes, Unreadable: forbidden})
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// add records a reading. The slices of earlier views stay unchanged.
func (w *Watcher) add(reading operations.Reading) {
	before := w.view.Reading
	point := operations.Point{At: reading.At, Backlog: reading.Relay.Unpublished, Lags: make(map[string]uint64), Applied: make(map[string]float64)}
	if between := reading.At.Sub(before.At).Seconds(); !before.At.IsZero() && between > 0 {
		point.Written = max(0, float64(reading.Relay.LastPosition-before.Relay.LastPosition)) / between
		if reading.Relay.Stream == before.Relay.Stream && reading.Relay.Sequence > before.Relay.Sequence {
			point.Published = float64(reading.Relay.Sequence-before.Relay.Sequence) / between
		}
	}
	for _, s := range reading.Subscribers {
		point.Applied[s.Subscriber] = s.Rate
		if s.MessagesBehind != nil {
			point.Lags[s.Subscriber] = *s.MessagesBehind
		}
	}
	first := slices.IndexFunc(w.view.Points, func(p operations.Point) bool { return reading.At.Sub(p.At) <= History })
	if first < 0 {
		first = len(w.view.Points)
	}
	w.view.Points = append(slices.Clone(w.view.Points[first:]), point)
	if leader := reading.Relay.Leader; len(w.view.Leaders) == 0 || !sameLeader(leader, w.view.Leaders[0].Leader) {
		w.view.Leaders = append([]operations.LeaderChange{{At: reading.At, Leader: leader}}, w.view.Leaders[:min(len(w.view.Leaders), maxLeaders-1)]...)
	}
	w.view.Reading = reading
}

func sameLeader(a, b *operations.Leader) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Holder == b.Holder && a.Token == b.Token
}
