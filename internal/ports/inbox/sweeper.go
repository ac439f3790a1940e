package inbox

import (
	"context"
	"time"
)

// Sweeper removes the records of events that can never come again. A caller first asks for candidates, then reads the end of the stream,
// waits until every lane has passed that end, and sweeps. By then the lanes have read every message in the stream that carries a candidate,
// and have recorded its sequence.
type Sweeper interface {
	// Candidates returns ids of events that the subscriber applied or discarded longer ago than age, and that the log can never publish again:
	// neither the log nor its parking lot has them. The oldest come first. If the stream is not filled from the log of this database,
	// Candidates returns no ids, and the reason as why.
	Candidates(ctx context.Context, subscriber, stream string, age time.Duration, limit int) (ids []string, why string, err error)
	// Sweep removes the records of those candidates that the subscriber last read before the sequence first of the stream. It returns how many
	// records it removed. It removes nothing unless every lane stands in this stream, at the sequence passed or later.
	Sweep(ctx context.Context, subscriber, stream string, ids []string, first, passed uint64) (int, error)
}
