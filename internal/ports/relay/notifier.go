package relay

// Notifier wakes the relays of all instances when the log has grown or the lease is free. A notification can be lost, so a
// relay also polls. A Notifier is safe for concurrent use.
type Notifier interface {
	// Notify wakes the relay of every instance, this one included. It may join calls that are close together into one notification. It never
	// blocks and never fails.
	Notify()
}

// Listener receives the notifications that Notifiers send.
type Listener interface {
	// Notifications returns a channel. After one or more notifications, the channel has one value to receive. The channel has a
	// buffer of one value, and is never closed.
	Notifications() <-chan struct{}
}
