// Package contracttest runs the contract suites of the ports. A suite calls Runner once, and then the returned function once for each promise of
// its port.
package contracttest

import "testing"

// Runner returns a function that tests one promise. The function calls open for each promise, so each promise has a new harness. A suite tests
// the plain cases first, then the odd ones.
func Runner[H any](t *testing.T, open func(t *testing.T) H) func(promise string, test func(t *testing.T, h H)) {
	return func(promise string, test func(t *testing.T, h H)) {
		t.Helper()
		t.Run(promise, func(t *testing.T) { test(t, open(t)) })
	}
}
