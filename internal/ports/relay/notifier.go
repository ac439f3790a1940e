package relay

// Waker rings every instance's relay: the log has grown, or the lease is free. It is best effort, coalesces, never blocks
// and never fails; polling is the safety net.
type Waker interface {
	Wake()
}

// Alarm is the other end of Waker.
type Alarm interface {
	// C receives after a ring since the last receive. It is buffered by one and never closed.
	C() <-chan struct{}
}
