package subscribing

import "time"

// The defaults of Options. With the defaults, an event that fails every time is dead after 51 seconds.
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
	// Handler is the name of the subscriber's handler; empty: the handler that the subscriber already has.
	Handler string
	// Lanes is how many lanes a new subscriber begins with. A subscriber that has begun keeps its lanes.
	Lanes int
	// BatchTime is how long the handler should work in one transaction. A batch gets as many events as the handler should manage in this
	// time.
	BatchTime time.Duration
	// ReadAhead bounds, in bytes, the events that a copy holds in memory before they are handled.
	ReadAhead int
	// CallTime bounds a call of an external handler, and the age of its transaction when the call begins. It must be less than half of the
	// time after which a silent transaction expires.
	CallTime time.Duration
	// Transactions is how many transactions a copy has open at once; 1 by default.
	Transactions int
	MinBackoff   time.Duration // the wait after the first failure; it doubles with every further failure
	MaxBackoff   time.Duration // the longest wait
	MaxAttempts  int           // an event is dead after so many failures
	Retention    time.Duration // how long applied events are remembered at least; 0: for ever
	// Continue lets the subscriber go on without lost messages. Otherwise it stops before them.
	Continue bool
	// LossAdvice returns the text, for logs and Trouble, that tells an operator how to let the subscriber go on without the messages that
	// were lost up to a sequence.
	LossAdvice func(subscriber string, to uint64) string
	// LetterCommand returns the command, for logs, with which an operator retries or discards a dead letter. verb is "retry" or "discard".
	LetterCommand func(verb, subscriber, event string) string
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
	if o.LossAdvice == nil {
		o.LossAdvice = func(string, uint64) string { return "an operator has to decide" }
	}
	if o.LetterCommand == nil {
		o.LetterCommand = func(verb, _, _ string) string { return verb }
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
