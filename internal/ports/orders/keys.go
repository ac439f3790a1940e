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

// KeyHeader is where a client gives its key.
const KeyHeader = "Idempotency-Key"

// What is refused because of its key.
var (
	// ErrKey : the text is not a key.
	ErrKey = fault.New(fault.Invalid, "invalid_idempotency_key", "not an idempotency key")
	// ErrKeyReused : the key was given to another request before. It is for good: a new request needs a key of its own.
	ErrKeyReused = fault.New(fault.Refused, "idempotency_key_reused",
		"the "+KeyHeader+" was used for another request of the same customer in the last 24 hours; give each request a key of its own")
)

// Key is what a client gives to a request so that it can send it again, in characters that are compared as they are. The
// empty key stands for none.
type Key string

// longestKey is in bytes, which are characters.
const longestKey = 255

// ParseKey accepts 1 to 255 visible ASCII characters.
func ParseKey(text string) (Key, error) {
	valid := text != "" && len(text) <= longestKey
	for i := 0; valid && i < len(text); i++ {
		valid = text[i] > ' ' && text[i] <= '~'
	}
	if !valid {
		const reason = "must be 1 to 255 visible ASCII characters, such as a UUID"
		return "", ErrKey.With("%s %s", KeyHeader, reason).On(KeyHeader, reason)
	}
	return Key(text), nil
}

// Scope says whose key it is. Two keys of different scopes are different keys, though their texts are the same.
type Scope string

// ScopeOf returns the scope of everything that is asked for a customer: an order that is placed, and a change of one.
func ScopeOf(customer order.CustomerID) Scope { return Scope(customer) }

// Digest stands for a request. Requests that mean the same have the same digest, and nobody can read in it what was asked for.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a request that is written in the one way that all requests of its meaning are.
func DigestOf(request string) Digest { return sha256.Sum256([]byte(request)) }

// KeyClaim ties a key to what was asked for with it, and to the order that was placed or changed.
type KeyClaim struct {
	Scope  Scope
	Key    Key
	Digest Digest
	Order  order.ID
}

// Keys remembers claims for KeyLifetime, by the store's own clock.
type Keys interface {
	// Claim answers with the claim that holds for the key: mine, or the one that was committed before and has not expired.
	// If another transaction claims the key at the moment, it waits for its end. Mine is kept with the transaction, and until
	// that ends others wait for it; so it comes before anything else that others may wait for.
	Claim(ctx context.Context, mine KeyClaim) (KeyClaim, error)
	// Held returns the claim that was committed for the key and has not expired, if there is one. It writes nothing and waits
	// for nobody.
	Find(ctx context.Context, scope Scope, key Key) (holds KeyClaim, found bool, err error)
}

// ExpiredKeys is what nobody needs any more of Keys.
type ExpiredKeys interface {
	// Delete deletes claims that have expired, at most so many, and returns how many. It waits for nobody: what is being
	// claimed at the moment stays. Any number may do it at the same time.
	Delete(ctx context.Context, most int) (deleted int, err error)
}
