package jetstream_test

import (
	"testing"

	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func TestPublisher(t *testing.T) {
	relaytest.TestPublisher(t, func(t *testing.T) relaytest.StreamHarness { return newBroker(t) })
}

func TestFinder(t *testing.T) {
	relaytest.TestFinder(t, func(t *testing.T) relaytest.FinderHarness { return newBroker(t) })
}

func TestNotifier(t *testing.T) {
	relaytest.TestNotifier(t, func(t *testing.T) relaytest.NotifierHarness { return newNotifiers(t) })
}

func TestLiveness(t *testing.T) {
	relaytest.TestLiveness(t, func(t *testing.T) relaytest.LivenessHarness { return &processes{broker: newBroker(t)} })
}

func TestReader(t *testing.T) {
	inboxtest.TestStream(t, func(t *testing.T) inboxtest.StreamHarness { return newBroker(t) })
}
