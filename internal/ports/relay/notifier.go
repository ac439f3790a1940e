package relay

// Notifier wakes the relays of all instances: the log has grown, or the lease is free. It is best effort: if a notification is
// lost, the relay finds out when it polls. It is safe for concurrent use.
type Notifier interface {
	// Notify wakes the relay of every instance, this one included. Notifications that come close together may become one. Notify
	// never blocks and never fails.
	Notify()
}

// Listener receives what Notifiers send.
type Listener interface {
	// Notifications receives a value after one or more notifications since the last receive. The channel is buffered by one and
	// never closed.
	Notifications() <-chan struct{}
}
