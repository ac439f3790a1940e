package relay

import (
	"context"
	"time"
)

// Term is the time for which one relay leads. Its holder may try to publish and to write until Deadline. A term alone permits
// nothing: Token fences each write to the database, and the stream's tail fences each append.
type Term struct {
	Token    int64     // fencing token; each term has a higher one
	Deadline time.Time // when the holder stops at the latest, by the holder's own monotonic clock
}

// Elector gives the lease to one relay at a time. The lease decides which relay tries to publish. The store that keeps the lease
// decides by its own clock when the lease expires. The Deadline of a Term counts from a time before the request, so the Deadline
// passes before the lease expires.
type Elector interface {
	// Acquire takes the lease with a new, higher token if the lease is free, has expired, or is held under the token gone.
	// Else it returns a *LeaseHeldError. The caller passes the token of a leader that it believes dead; 0: the caller believes no
	// leader dead.
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
