package memory

import "github.com/assylzhan-a/outboxie/internal/ports/relay"

// Notifier rings one relay in the same process.
type Notifier struct{ notified chan struct{} }

var (
	_ relay.Notifier = (*Notifier)(nil)
	_ relay.Listener = (*Notifier)(nil)
)

// NewBell returns a bell that was not rung.
func NewNotifier() *Notifier { return &Notifier{notified: make(chan struct{}, 1)} }

// Wake implements the port.
func (b *Notifier) Notify() {
	select {
	case b.notified <- struct{}{}:
	default:
	}
}

// C implements the port.
func (b *Notifier) Notifications() <-chan struct{} { return b.notified }
