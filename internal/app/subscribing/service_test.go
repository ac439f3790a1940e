package subscribing_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// service is a subscriber whose copies run in fake time, without injected faults.
type service struct {
	t      *testing.T
	stream *memory.Stream
	inbox  *memory.Inbox
	opts   subscribing.Options
	handle func(ctx context.Context, entry outbox.Entry) error
	// inTx is called in the handler's transaction, before handle; nil: it is not called.
	inTx     inbox.HandlerFunc
	notifier relay.Notifier
	latency  time.Duration // how long a transaction takes, besides the handler
	work     inbox.UnitOfWork
	running  sync.WaitGroup
	ended    chan error // what each Run returned
	log      bytes.Buffer
	logger   *slog.Logger // of all copies, which writes to log
	read     atomic.Int64 // how many messages all copies have read

	redeliveries atomic.Int64 // how often all copies have looked for letters

	mu      sync.Mutex
	applied map[string]time.Duration // when each event was applied, from the start of the test, by event id
	by      map[string]int           // events handled, by copy
	logged  []string                 // ids of the events for which Applied was called
	began   time.Time
}

func newService(t *testing.T, opts subscribing.Options) *service {
	t.Helper()
	s := &service{
		t: t, stream: memory.NewStream(), inbox: memory.NewInbox(), opts: opts, began: time.Now(),
		applied: make(map[string]time.Duration), by: make(map[string]int),
		handle: func(context.Context, outbox.Entry) error { return nil }, ended: make(chan error, 100),
	}
	s.work, s.logger = s.inbox, slog.New(slog.NewTextHandler(&s.log, nil))
	s.inbox.IdleTimeout = idleTimeout
	_, err := s.stream.Open(t.Context(), 1)
	require.NoError(t, err)
	return s
}

var quiet = slog.New(slog.DiscardHandler)

// copyHandler is the handler of one copy.
type copyHandler struct {
	*service
	name string
}

func (c copyHandler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	if c.inTx != nil {
		if err := c.inTx(ctx, tx, entry); err != nil {
			return err
		}
	}
	if err := c.handle(ctx, entry); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applied[entry.ID] = time.Since(c.began)
	c.by[c.name]++
	return nil
}

func (copyHandler) Name() string    { return "test" }
func (copyHandler) Types() []string { return []string{relaytest.EventType} }
func (copyHandler) External() bool  { return false }

func (c copyHandler) Applied(_ context.Context, entry outbox.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logged = append(c.logged, entry.ID)
}

// killable does not withdraw a copy's announcement, like a process that is killed.
type killable struct{ inbox.Checkpoints }

func (killable) RemoveCopy(context.Context, string, string) error { return nil }

// slowDatabase is a database that is slow in every transaction.
type slowDatabase struct {
	inbox.UnitOfWork
	latency time.Duration
}

func (d slowDatabase) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	time.Sleep(d.latency)
	return d.UnitOfWork.Apply(ctx, subscriber, batch, handler, judge)
}

// onlyHandler returns a function for Ports.Handlers that returns handler for every name.
func onlyHandler(handler inbox.Handler) func(string) (inbox.Handler, error) {
	return func(string) (inbox.Handler, error) { return handler, nil }
}

// countedStream counts the messages that are read.
type countedStream struct {
	inbox.Stream
	read *atomic.Int64
}

func (c countedStream) Read(ctx context.Context, from uint64, limit inbox.ReadLimit) ([]inbox.Message, error) {
	messages, err := c.Stream.Read(ctx, from, limit)
	c.read.Add(int64(len(messages)))
	return messages, err
}

// countedLetters counts how often a copy looks for letters.
type countedLetters struct {
	inbox.DeadLetters
	redeliveries *atomic.Int64
}

func (c countedLetters) Redeliver(
	ctx context.Context, subscriber string, r inbox.Redelivery, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Redelivered, bool, error) {
	c.redeliveries.Add(1)
	return c.DeadLetters.Redeliver(ctx, subscriber, r, handler, judge)
}

// start starts a copy, and returns a function that kills it.
func (s *service) start(name string) (kill func()) {
	return s.startHandling(name, copyHandler{s, name})
}

// startHandling starts a copy with a handler.
func (s *service) startHandling(name string, handler inbox.Handler) (kill func()) {
	_, kill = s.run(name, handler, s.inbox)
	return kill
}

// run starts a copy with the given checkpoints, and returns the copy and a function that kills it.
func (s *service) run(name string, handler inbox.Handler, checkpoints inbox.Checkpoints) (running *subscribing.Subscriber, kill func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	running = subscribing.New(subscriber, name, subscribing.Ports{
		Stream: countedStream{memory.NewReader(s.stream, subscriber), &s.read}, Checkpoints: killable{checkpoints},
		Work:    slowDatabase{s.work, s.latency},
		Letters: countedLetters{s.inbox, &s.redeliveries}, Sweeper: s.inbox, Log: s.inbox, Handlers: onlyHandler(handler), Notifier: s.notifier,
	}, s.opts, s.logger)
	s.running.Go(func() { s.ended <- running.Run(ctx) })
	return running, cancel
}

// publish appends events to the stream, each of its own aggregate, and returns them.
func (s *service) publish(count int) []outbox.Entry {
	s.t.Helper()
	entries := relaytest.NewEntries(outbox.Position(s.stream.LastSequence()), count)
	for i := range entries {
		entries[i].Key.ID, entries[i].Version = fmt.Sprint("thing-", entries[i].Position), 1
	}
	_, err := s.stream.Publish(s.t.Context(), s.stream.LastSequence(), entries)
	require.NoError(s.t, err)
	return entries
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.applied)
}

// inFakeTime runs a test on a service in fake time.
func inFakeTime(t *testing.T, opts subscribing.Options, test func(t *testing.T, s *service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newService(t, opts)) })
}
