package memory

import "github.com/assylzhan-a/outboxie/internal/ports/relay"

// Notifier wakes one relay in the same process.
type Notifier struct{ notified chan struct{} }

var (
	_ relay.Notifier = (*Notifier)(nil)
	_ relay.Listener = (*Notifier)(nil)
)

// NewNotifier returns a notifier that has no notification yet.
func NewNotifier() *Notifier { return &Notifier{notified: make(chan struct{}, 1)} }

// Notify never blocks. Several calls before the next receive are one notification.
func (b *Notifier) Notify() {
	select {
	case b.notified <- struct{}{}:
	default:
	}
}

// Notifications returns the channel of the notifications.
func (b *Notifier) Notifications() <-chan struct{} { return b.notified }
