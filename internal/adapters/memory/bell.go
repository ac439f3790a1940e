package memory

import "github.com/assylzhan-a/outboxie/internal/ports/relay"

// Bell rings one relay in the same process.
type Bell struct{ rung chan struct{} }

var (
	_ relay.Waker = (*Bell)(nil)
	_ relay.Alarm = (*Bell)(nil)
)

// NewBell returns a bell that was not rung.
func NewBell() *Bell { return &Bell{rung: make(chan struct{}, 1)} }

// Wake implements the port.
func (b *Bell) Wake() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// C implements the port.
func (b *Bell) C() <-chan struct{} { return b.rung }
