package relay

import (
	"context"
	"time"
)

// Term is one leadership: while it lasts, its holder may try to relay. A term alone permits nothing: each write is also
// fenced, by Token or by the stream's tail.
type Term struct {
	Token    int64     // fencing token; each term has a higher one
	Deadline time.Time // the holder stops here at the latest; on its own monotonic clock
}

// Elector gives the lease to one relay at a time. The lease decides who tries to relay. Its keeper's clock decides when it
// expires. The Deadline of a Term counts from before the request, so it passes before the lease expires.
type Elector interface {
	// Acquire takes the lease with a new, higher token if the lease is free, has expired, or is held under the token gone.
	// Else it returns a *LeaseHeldError. The caller passes the token of a leader that it believes dead; 0 is nobody's token.
	Acquire(ctx context.Context, gone int64) (Term, error)

	// Renew extends the term, or returns ErrLeaseLost. It also extends a lease that has expired and that nobody else took.
	Renew(ctx context.Context, term Term) (Term, error)

	// Resign frees the lease at once. If the lease is not the caller's any more, Resign changes nothing and returns nil.
	Resign(ctx context.Context, term Term) error
}

// LeaseHeldError reports who holds the lease. errors.Is finds ErrLeaseHeld in it.
type LeaseHeldError struct {
	Holder string
	Token  int64 // of the holder's term; 0: not known, because the holder took its first term during the call
}

// Error names the holder.
func (e *LeaseHeldError) Error() string { return "the lease is held by " + e.Holder }

// Unwrap returns ErrLeaseHeld.
func (e *LeaseHeldError) Unwrap() error { return ErrLeaseHeld }
