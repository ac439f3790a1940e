package relay

// Notifier wakes the relays of all instances when the log has grown or the lease is free. Notifications can be lost: a relay also
// polls. It is safe for concurrent use.
type Notifier interface {
	// Notify wakes the relay of every instance, this one included. It may join notifications that are close together. It never
	// blocks and never fails.
	Notify()
}

// Listener receives what Notifiers send.
type Listener interface {
	// Notifications receives a value after one or more notifications since the last receive. The channel is buffered by one and
	// never closed.
	Notifications() <-chan struct{}
}
