package orders

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
)

// KeyLifetime is how long a key is remembered.
const KeyLifetime = 24 * time.Hour

// ErrKeyReused reports that the key was used for another request before. Sending the request again does not help: it needs another key.
var ErrKeyReused = fault.New(fault.Refused, "idempotency_key_reused",
	"the idempotency key was used for another request of the same customer in the last 24 hours; give each request a key of its own")

// Key identifies a request, so that the client can send it again. Keys are compared byte by byte. The empty Key means that there is
// none.
type Key string

// Scope is the owner of a key. Equal keys of different scopes are different keys.
type Scope string

// ScopeOf returns the scope of every request about a customer: an order that is placed, and a change of one.
func ScopeOf(customer order.CustomerID) Scope { return Scope(customer) }

// Digest is a hash of a request. Requests with the same meaning have the same digest, and a digest does not reveal the request.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a request. The caller writes every request of one meaning in the same way.
func DigestOf(request string) Digest { return sha256.Sum256([]byte(request)) }

// KeyClaim ties a key to its request, and to the order that the request placed or changed.
type KeyClaim struct {
	Scope  Scope
	Key    Key
	Digest Digest
	Order  order.ID
}

// Keys remembers claims for KeyLifetime, by the store's own clock.
type Keys interface {
	// Claim returns the valid claim for the key: the one that was committed before and has not expired, or else mine. Mine is stored with
	// the transaction. If another transaction is claiming the key, Claim waits for its end. Others wait for this transaction in the same
	// way, so Claim comes before anything else that others may wait for.
	Claim(ctx context.Context, mine KeyClaim) (KeyClaim, error)
	// Find returns the committed claim for the key that has not expired, if there is one. It writes nothing and waits for nobody.
	Find(ctx context.Context, scope Scope, key Key) (claim KeyClaim, found bool, err error)
}

// ExpiredKeys removes the claims that have expired.
type ExpiredKeys interface {
	// Delete deletes at most limit expired claims, and returns how many. It waits for nobody: it leaves a key alone that is being claimed.
	// Any number of callers may run it at the same time.
	Delete(ctx context.Context, limit int) (deleted int, err error)
}
