package memory_test

import (
	"testing"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func TestLiveness(t *testing.T) {
	outboxtest.TestLiveness(t, func(*testing.T) outboxtest.LivenessHarness { return &processes{broker: memory.NewPresence()} })
}

// processes are connected to one broker.
type processes struct {
	broker *memory.Presence
	all    []*memory.Liveness
}

func (p *processes) Process() ports.Liveness {
	process := memory.NewLiveness(p.broker)
	p.all = append(p.all, process)
	return process
}

func (p *processes) Kill(_ *testing.T, process ports.Liveness) {
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
