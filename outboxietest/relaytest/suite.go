package relaytest

import "testing"

// promise is one test of a suite. Its name says what the port promises.
type promise[H any] struct {
	name string
	test func(t *testing.T, h H)
}

// runSuite tests the promises in the given order, each on a harness of its own: the plain case first, then the odd ones.
func runSuite[H any](t *testing.T, open func(t *testing.T) H, promises []promise[H]) {
	t.Helper()
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) { p.test(t, open(t)) })
	}
}
