package relay

import (
	"context"
)

// LeaseHeldError reports who holds the lease. It is an ErrLeaseHeld.
type LeaseHeldError struct {
	Holder string
	Token  int64 // of the holder's term; 0: it was taken for the first time at this moment, so the token is not known yet
}

// Error names the holder.
func (e *LeaseHeldError) Error() string { return "the lease is held by " + e.Holder }

// Unwrap returns ErrLeaseHeld.
func (e *LeaseHeldError) Unwrap() error { return ErrLeaseHeld }

// Elector hands out the lease that decides which relay tries. The keeper's clock decides expiry; the deadline of a Term
// is on the caller's monotonic clock, counted from before the request, and ends before the lease does.
type Elector interface {
	// Acquire takes the lease if it is free, has expired, or is held under the token gone, with a new and higher token; else
	// the answer is a *LeaseHeldError. The caller believes that the holder of the token gone cannot publish any more; 0 is
	// nobody's token.
	Acquire(ctx context.Context, gone int64) (Term, error)
	// Renew extends the term, or answers ErrLeaseLost. An expired lease that nobody took is still the caller's.
	Renew(ctx context.Context, term Term) (Term, error)
	// Resign frees the lease at once. A lease that is not the caller's any more is left alone, without an error.
	Resign(ctx context.Context, term Term) error
}
