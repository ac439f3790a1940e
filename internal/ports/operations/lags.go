package operations

import (
	"context"
	"time"
)

// Lag is how far one subscriber is behind.
type Lag struct {
	Subscriber string
	Events     int64         // in the stream that it has not dealt with
	Oldest     time.Duration // since the stream stored the first of them
}

// ProgressReader reads how far subscribers have come that keep their checkpoints in this database.
type ProgressReader interface {
	// Progress returns where the slowest lane of each subscriber stands, in order of the names. It reads one row for each lane.
	Progress(ctx context.Context) ([]SubscriberProgress, error)
}

// SubscriberProgress is how far a subscriber has come.
type SubscriberProgress struct {
	Subscriber string
	Stream     string // identity of the stream that Sequence is in: when it was created
	Sequence   uint64 // every lane in this stream has dealt with all events up to here
	Lanes      int
}

// StreamLags measures subscribers against the stream.
type StreamLags interface {
	// Behind returns the lag of each of these subscribers. It returns nothing if there is no stream.
	Behind(ctx context.Context, subscribers []SubscriberProgress) ([]Lag, error)
	// Lags returns the lag of each subscriber whose progress the broker keeps, as former versions of the program had it.
	Lags(ctx context.Context) ([]Lag, error)
}
