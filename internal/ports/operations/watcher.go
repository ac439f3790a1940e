package operations

import "time"

// Watcher lets several people watch the relay and its subscribers with the same readings. Its methods are safe for concurrent use.
type Watcher interface {
	// Watch begins to watch, and returns a function that ends it. While somebody watches, readings come about every second.
	Watch() (end func())
	// View returns the newest reading with the history, and a channel that is closed when there is a newer one. The caller does not change
	// the view.
	View() (view View, newer <-chan struct{})
}

// Reading is the state at one time.
type Reading struct {
	At          time.Time // by the clock of this process
	Relay       RelayStatus
	Subscribers []SubscriberSummary
	Processes   []string
	// Unreadable is why the subscribers cannot be read, if it is ErrNoRight. Then a reading has no Subscribers. Nil: they were read.
	Unreadable error
}

// Point is what a chart shows of a reading.
type Point struct {
	At        time.Time
	Written   float64 // events in a second that were committed to the log, since the point before
	Published float64 // messages in a second that the relay stored in the stream, since the point before
	Backlog   int64   // unpublished events
	Lags      map[string]uint64
	Applied   map[string]float64 // events in a second, by subscriber
}

// LeaderChange is a change of the leader that the Watcher has seen.
type LeaderChange struct {
	At     time.Time
	Leader *Leader // nil: nobody leads
}

// View is the newest reading with the history.
type View struct {
	Reading
	Err     error // why the newest reading failed; nil: it did not. Reading is then the last one that did not fail
	Points  []Point
	Leaders []LeaderChange // the newest first
}
