package memory

import (
	"context"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Lease is one row of the lease table, with the clock that decides when it expires.
type Lease struct {
	mu      sync.Mutex
	ttl     time.Duration
	holder  string
	token   int64
	expires time.Time
	skew    time.Duration
}

// NewLease returns a lease that nobody holds.
func NewLease(ttl time.Duration) *Lease { return &Lease{ttl: ttl} }

// Advance moves the clock of the lease, forwards or backwards.
func (l *Lease) Advance(by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skew += by
}

// Holder returns who holds the lease, and its token.
func (l *Lease) Holder() (string, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder, l.token
}

func (l *Lease) now() time.Time { return time.Now().Add(l.skew) }

// holds returns ErrLeaseLost unless token is the present token of the lease.
func (l *Lease) holds(token int64) error {
	if l.token != token {
		return relay.ErrLeaseLost
	}
	return nil
}

// Elector acquires and renews a Lease for one instance.
type Elector struct {
	lease  *Lease
	holder string
}

var _ relay.Elector = (*Elector)(nil)

// NewElector returns the elector of one instance.
func NewElector(lease *Lease, holder string) *Elector { return &Elector{lease: lease, holder: holder} }

func (e *Elector) term(asked time.Time) relay.Term {
	return relay.Term{Token: e.lease.token, Deadline: asked.Add(e.lease.ttl - e.lease.ttl/8)}
}

// Acquire uses the lease's clock to decide whether the lease has expired.
func (e *Elector) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	if err := ctx.Err(); err != nil {
		return relay.Term{}, err
	}
	asked := time.Now()
	e.lease.mu.Lock()
	defer e.lease.mu.Unlock()
	if left := e.lease.expires.Sub(e.lease.now()); left > 0 && left <= e.lease.ttl && e.lease.token != gone {
		return relay.Term{}, &relay.LeaseHeldError{Holder: e.lease.holder, Token: e.lease.token}
	}
	e.lease.holder = e.holder
	e.lease.token++
	e.lease.expires = e.lease.now().Add(e.lease.ttl)
	return e.term(asked), nil
}

// Renew does not look at the clock: a lease is held until another instance takes it.
func (e *Elector) Renew(ctx context.Context, term relay.Term) (relay.Term, error) {
	if err := ctx.Err(); err != nil {
		return relay.Term{}, err
	}
	asked := time.Now()
	e.lease.mu.Lock()
	defer e.lease.mu.Unlock()
	if err := e.lease.holds(term.Token); err != nil {
		return relay.Term{}, err
	}
	e.lease.expires = e.lease.now().Add(e.lease.ttl)
	return e.term(asked), nil
}

// Resign changes nothing if term does not have the present token of the lease.
func (e *Elector) Resign(ctx context.Context, term relay.Term) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.lease.mu.Lock()
	defer e.lease.mu.Unlock()
	if e.lease.token == term.Token {
		e.lease.expires = e.lease.now()
	}
	return nil
}
