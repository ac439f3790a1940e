package relay

import "context"

// Liveness tells followers whether the broker still sees the leader's process. It only shortens the wait of a follower. A
// wrong answer costs a change of leadership, and nothing else. It is safe for concurrent use.
type Liveness interface {
	// Announce makes this process known to the broker as the holder of token, until withdraw is called. A second call of
	// withdraw does nothing. While the process is disconnected from the broker, the broker does not know it. Announce does not wait
	// for the broker.
	Announce(token int64) (withdraw func())

	// Probe asks the broker whether another process has announced token. It returns within a second, or when ctx ends. It does not
	// find the announcement of its own process.
	Probe(ctx context.Context, token int64) ProbeResult
}

// ProbeResult is the answer to a Probe.
type ProbeResult struct {
	// Gone reports that the broker sees no process that has announced the token. It is false if the broker cannot be reached, if no answer
	// came in time, and for a process that is frozen but connected.
	Gone bool
	// Session is how many times the caller has reconnected to the broker. 0: the connection was never lost.
	Session uint64
}
