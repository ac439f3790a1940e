// Package opening opens sealed events for the handlers of a subscriber. A program creates one Ring, and wraps the subscriber's handler with
// Handler, its unit of work with UnitOfWork, and its emitter with Emitter.
//
// An event whose customer was erased is applied without an effect: nobody can open it any more. An event whose key the database never had fails,
// because the subscriber may be connected to the wrong database.
package opening

import (
	"context"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const (
	// Forget is how long a Ring uses a key after it has read the key, at most. After this time, the erasure of a customer takes effect.
	Forget = 10 * time.Second
	// maxKeys is how many keys a Ring keeps, at most.
	maxKeys = 20_000
)

// ErrUnknownKey reports that an event is sealed with a key that the database does not have. Nobody erased the key.
var ErrUnknownKey = fault.New(fault.Refused, "unknown_key", "the event is sealed with a key that this database does not have")

// Ring keeps the keys that a subscriber used last. It is safe for concurrent use.
type Ring struct {
	keys orders.KeyRing
	now  func() time.Time

	mu sync.Mutex
	// Keys are added to fresh. When fresh has half of maxKeys, fresh becomes stale, and the former stale keys are forgotten.
	fresh, stale map[string]keptKey
	erased       int64
}

// keptKey is a key, and a time before it was read.
type keptKey struct {
	orders.FoundKey
	at time.Time
}

// NewRing returns a Ring without keys.
func NewRing(keys orders.KeyRing, now func() time.Time) *Ring {
	return &Ring{keys: keys, now: now, fresh: make(map[string]keptKey)}
}

// Erased returns how many events were handled without an effect because their customer was erased. An event that is handled again counts again.
func (r *Ring) Erased() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.erased
}

// prefetch reads the keys of many events with one call. It reads a key again after half of Forget, so that the handler finds each key.
func (r *Ring) prefetch(ctx context.Context, ids map[string]bool) error {
	var missing []string
	for id := range ids {
		if _, kept := r.kept(id, Forget/2); !kept {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return r.read(ctx, missing)
}

// find returns a key, and reads it if it is not kept. It fails with ErrUnknownKey.
func (r *Ring) find(ctx context.Context, id string) (orders.FoundKey, error) {
	if key, kept := r.kept(id, Forget); kept {
		return key, nil
	}
	if err := r.read(ctx, []string{id}); err != nil {
		return orders.FoundKey{}, err
	}
	key, kept := r.kept(id, Forget)
	if !kept {
		return orders.FoundKey{}, ErrUnknownKey.With(
			"the event is sealed with the key %.36q, which this database does not have: is it the database of the service that sealed the event?", id)
	}
	return key, nil
}

// kept returns a key that was read within a time.
func (r *Ring) kept(id string, within time.Duration) (orders.FoundKey, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, has := r.fresh[id]
	if !has {
		key, has = r.stale[id]
	}
	return key.FoundKey, has && r.now().Sub(key.at) < within
}

func (r *Ring) read(ctx context.Context, ids []string) error {
	began := r.now()
	found, err := r.keys.Find(ctx, ids)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range found {
		if len(r.fresh) >= maxKeys/2 {
			r.fresh, r.stale = make(map[string]keptKey), r.fresh
		}
		r.fresh[key.ID] = keptKey{key, began}
	}
	return nil
}

// open returns a message that a handler can read. If the customer was erased, readable is false.
func (r *Ring) open(message outbox.Message, key orders.FoundKey) (opened outbox.Message, readable bool, err error) {
	if key.Erased {
		return outbox.Message{}, false, nil
	}
	opened, err = message.Open(key.SealKey)
	return opened, err == nil, err
}

func (r *Ring) countErased() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erased++
}
