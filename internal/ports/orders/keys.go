package orders

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// KeyLifetime is how long Keys remembers a claim.
const KeyLifetime = 24 * time.Hour

// ErrKeyReused reports that the key was used for another request before. To send the request again does not help: the request needs
// another key.
var ErrKeyReused = fault.New(fault.Refused, "idempotency_key_reused",
	"the idempotency key was used for another request of the same customer in the last 24 hours; give each request a key of its own")

// Key identifies a request, so that the client can send the request again. Keys are compared byte by byte. The empty Key means that the
// request has no key.
type Key string

// Scope is the owner of a key. Equal keys of different scopes are different keys.
type Scope string

// ScopeOf returns the scope of a principal's requests about the orders of a customer. The customer's own requests have the scope that all
// requests have if nobody checks who sends them: so keys stay valid when the check is turned on or off. A principal that reaches the
// orders of all customers has one scope for all its requests. That scope has a fixed length, and does not reveal who the principal is.
func ScopeOf(who order.Principal, customer value.CustomerID) Scope {
	if who.Kind == order.KindAnyone || who.Customer == customer && who.Customer != "" {
		return Scope(customer)
	}
	sum := sha256.Sum256([]byte(string(who.Kind) + " " + who.ID))
	return Scope("principal:" + hex.EncodeToString(sum[:]))
}

// Digest is a hash of a request. Requests with the same meaning have the same digest, and a digest does not reveal the request.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a request. The caller writes requests with the same meaning as the same text.
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
	// Claim returns the claim that is valid for the key. If a claim was committed before and has not expired, Claim returns that claim.
	// Otherwise it stores mine in the transaction and returns mine. If another transaction is claiming the key, Claim waits until that
	// transaction ends. Later requests with the key wait for this transaction in the same way. So the caller calls Claim before it does
	// anything else that others may wait for.
	Claim(ctx context.Context, mine KeyClaim) (KeyClaim, error)
	// Find returns the committed claim for the key that has not expired, if there is one. It writes nothing and waits for nobody.
	Find(ctx context.Context, scope Scope, key Key) (claim KeyClaim, found bool, err error)
}

// ExpiredKeys removes the claims that have expired.
type ExpiredKeys interface {
	// Delete deletes at most limit expired claims, and returns how many. It waits for nobody: it skips a key that a transaction is
	// claiming. Any number of callers may call Delete at the same time.
	Delete(ctx context.Context, limit int) (deleted int, err error)
}
