package jetstream_test

import (
	"testing"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox/inboxtest"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func TestPublisher(t *testing.T) {
	outboxtest.TestPublisher(t, func(t *testing.T) outboxtest.StreamHarness { return newBroker(t) })
}

func TestFinder(t *testing.T) {
	outboxtest.TestFinder(t, func(t *testing.T) outboxtest.FinderHarness { return newBroker(t) })
}

func TestWaker(t *testing.T) {
	outboxtest.TestWaker(t, func(t *testing.T) outboxtest.BellHarness { return newBells(t) })
}

func TestLiveness(t *testing.T) {
	outboxtest.TestLiveness(t, func(t *testing.T) outboxtest.LivenessHarness { return &processes{broker: newBroker(t)} })
}

func TestReader(t *testing.T) {
	inboxtest.TestStream(t, func(t *testing.T) inboxtest.StreamHarness { return newBroker(t) })
}
