// Package e2e_test runs the real program as processes of its own, against real servers, the way an operator would. A few tests run relays in
// the test's process, to hold a step of one relay.
package e2e_test

import (
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

const (
	waitTimeout = 30 * time.Second
	tick        = 10 * time.Millisecond
)
