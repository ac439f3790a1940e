package memory_test

import (
	"testing"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func TestLiveness(t *testing.T) {
	relaytest.TestLiveness(t, func(*testing.T) relaytest.LivenessHarness { return &processes{broker: memory.NewPresence()} })
}

// processes are processes that share a fake broker.
type processes struct {
	broker *memory.LivenessBroker
	all    []*memory.Liveness
}

func (p *processes) Process() relay.Liveness {
	process := memory.NewLiveness(p.broker)
	p.all = append(p.all, process)
	return process
}

func (p *processes) Kill(_ *testing.T, process relay.Liveness) {
	process.(*memory.Liveness).Disconnect()
}

func (p *processes) Disconnect(*testing.T) {
	for _, process := range p.all {
		process.Disconnect()
	}
}

func (p *processes) Reconnect(*testing.T) {
	for _, process := range p.all {
		process.Reconnect()
	}
}
