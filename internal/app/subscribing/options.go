package subscribing

import "time"

// The defaults of Options. With those of the retries, an event that fails every time is dead after 51 seconds.
const (
	DefaultLanes       = 1
	DefaultMinBackoff  = 100 * time.Millisecond
	DefaultMaxBackoff  = 30 * time.Second
	DefaultMaxAttempts = 10
	DefaultBatchTime   = 100 * time.Millisecond
	DefaultReadAhead   = 16 << 20
	DefaultCallTime    = 2 * time.Second
)

// Options are the settings of a Subscriber. Zero values mean the defaults.
type Options struct {
	// Handler is the name of the subscriber's handler; empty: the one that it has.
	Handler string
	// Lanes is how many lanes a subscriber begins with. For one that has begun, the database knows.
	Lanes int
	// BatchTime is how long the handler is to work in a transaction: a batch has as many events as it is expected to handle meanwhile.
	BatchTime time.Duration
	// ReadAhead bounds, in bytes, the events that a copy holds in memory before they are handled.
	ReadAhead int
	// CallTime bounds a call of an external handler, and how old its transaction may be when the call begins. It is less than half of the
	// time for which a transaction may send nothing.
	CallTime time.Duration
	// Transactions is how many transactions a copy has under way at once; 1 by default.
	Transactions int
	MinBackoff   time.Duration // the wait after a first failure; it doubles with every further one
	MaxBackoff   time.Duration // the longest wait
	MaxAttempts  int           // an event that has failed so often is dead
	Retention    time.Duration // how long what was applied is remembered at least; 0: for ever
	// Continue lets the subscriber go on without messages that were lost. Otherwise it stands before them.
	Continue bool
	// Skip returns what an operator types to let the subscriber go on after a sequence. The log has it.
	Skip func(subscriber string, to uint64) string
	// Command returns what an operator types to decide about a dead letter: the verb is "retry" or "discard". The log has it.
	Command func(verb, subscriber, event string) string
}

func (o Options) orDefault() Options {
	for _, number := range []struct {
		value   *int
		replace int
	}{
		{&o.Lanes, DefaultLanes}, {&o.ReadAhead, DefaultReadAhead}, {&o.Transactions, 1}, {&o.MaxAttempts, DefaultMaxAttempts},
	} {
		if *number.value <= 0 {
			*number.value = number.replace
		}
	}
	for _, wait := range []struct {
		value   *time.Duration
		replace time.Duration
	}{
		{&o.BatchTime, DefaultBatchTime}, {&o.CallTime, DefaultCallTime}, {&o.MinBackoff, DefaultMinBackoff}, {&o.MaxBackoff, DefaultMaxBackoff},
	} {
		if *wait.value <= 0 {
			*wait.value = wait.replace
		}
	}
	if o.Skip == nil {
		o.Skip = func(string, uint64) string { return "skip" }
	}
	if o.Command == nil {
		o.Command = func(verb, _, _ string) string { return verb }
	}
	return o
}

// backoff returns the wait after a number of failures in a row.
func (o Options) backoff(failures int) time.Duration {
	wait := o.MinBackoff
	for range failures - 1 {
		if wait >= o.MaxBackoff/2 {
			return o.MaxBackoff
		}
		wait *= 2
	}
	return min(wait, o.MaxBackoff)
}
