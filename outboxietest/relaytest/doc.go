// Package relaytest holds the contract suites of the ports in internal/ports/relay. A suite checks that an adapter keeps the
// promises in the port's comments, also in outages, with ended contexts and with concurrent callers.
//
// A test of an adapter implements the port's harness, and passes a function that opens a new one:
//
//	func TestLogContract(t *testing.T) {
//		relaytest.TestLog(t, func(t *testing.T) relaytest.LogHarness { return newLogHarness(t) })
//	}
//
// Each subtest checks one promise, which is its name, on a new harness. The subtests of a suite run in a fixed order. The adapters
// in memory pass the same suites as the real adapters, so tests of the relay may use either.
package relaytest
