package operations

import (
	"context"
	"time"
)

// Lag is how far one subscriber is behind.
type Lag struct {
	Subscriber string
	Events     int64         // in the stream that the subscriber has not dealt with
	Oldest     time.Duration // age of the first of these events, since the stream stored it
}

// ProgressReader reads the progress of the subscribers that keep their checkpoints in this database.
type ProgressReader interface {
	// Progress returns the progress of the slowest lane of each subscriber, sorted by the subscribers' names. It reads one row per lane.
	Progress(ctx context.Context) ([]SubscriberProgress, error)
}

// SubscriberProgress is how far a subscriber has come.
type SubscriberProgress struct {
	Subscriber string
	Stream     string // identity of the stream to which Sequence belongs: the time of its creation
	Sequence   uint64 // every lane in this stream has dealt with all events up to here
	Lanes      int
}

// StreamLags measures how far subscribers are behind the stream.
type StreamLags interface {
	// LagsOf returns the lag of each of these subscribers. It returns nothing if there is no stream.
	LagsOf(ctx context.Context, subscribers []SubscriberProgress) ([]Lag, error)
	// Lags returns the lag of each subscriber whose progress is in the broker. Former versions of the program kept it there.
	Lags(ctx context.Context) ([]Lag, error)
}
