package relay

import "context"

// Liveness tells followers whether the leader's process is still there, as far as the broker knows. It decides how long a
// follower waits, and nothing else: a wrong answer costs a change of leadership. It is safe for concurrent use.
type Liveness interface {
	// Announce makes the caller's process known as the holder of the lease under token. That lasts until withdraw is called,
	// which may be called again. While the process has no connection to the broker it is not known; after a reconnect it is
	// again. Announce does not wait for the broker.
	Announce(token int64) (withdraw func())
	// Probe asks the broker for a process that has announced token. It answers within a second, or when ctx ends. A process
	// does not see what it announced itself.
	Probe(ctx context.Context, token int64) ProbeResult
}

// ProbeResult is what a Probe has found out.
type ProbeResult struct {
	// Gone means that the broker knows that no process has announced the token. It is false if a process has, if the broker
	// cannot be reached, and if no answer came in time: a frozen process is not gone.
	Gone bool
	// Session counts how often the connection to the broker was made again. 0: it was made at the first try and never lost.
	Session uint64
}
