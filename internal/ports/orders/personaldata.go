package orders

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// CustomerKeys has the keys that seal the events of customers. A customer has at most one key.
type CustomerKeys interface {
	// Hold returns the key of a customer. If the customer has none, Hold makes one, which commits with the transaction. PersonalData.Erase
	// for the same customer waits until the transaction ends, and Hold waits for Erase. Any number of transactions may hold a key at the
	// same time.
	Hold(ctx context.Context, customer value.CustomerID) (outbox.SealKey, error)
}

// FoundKey is a key that KeyRing found.
type FoundKey struct {
	outbox.SealKey
	Erased bool // the customer was erased, so nobody has the secret any more
}

// KeyRing reads committed keys. It is safe for concurrent use.
type KeyRing interface {
	// Find returns the keys with these ids, in any order. It leaves out ids that the database does not have.
	Find(ctx context.Context, ids []string) ([]FoundKey, error)
}

// Eraser removes the personal data of a customer from what this service keeps.
type Eraser interface {
	// Inspect returns what Erase would find. It changes nothing.
	Inspect(ctx context.Context, customer value.CustomerID) (CustomerData, error)
	// Erase removes what PersonalData.Erase removes, and returns what it found. It may be repeated.
	Erase(ctx context.Context, customer value.CustomerID) (CustomerData, error)
}

// PersonalData is what a database keeps of customers. It is safe for concurrent use.
type PersonalData interface {
	// Inspect returns what the database has of a customer.
	Inspect(ctx context.Context, customer value.CustomerID) (CustomerData, error)
	// Erase does the following in one transaction, and returns what it found before:
	//   - It erases the customer's key, so that nobody can open the events that the key sealed. The key's id stays, marked as erased.
	//   - It gives the customer's orders to pseudonym, and removes their notes. No version changes, and there is no event.
	//   - It deletes the request keys of the customer and of these orders.
	//   - It gives the customer's totals to pseudonym.
	//   - It discards the dead letters with plain events of the customer, and removes their payloads and errors. It keeps the letters with
	//     sealed events, and removes their errors.
	//
	// The log and the stream never change: a plain event stays until it is removed there. Erase waits for transactions that hold the
	// customer's key, or that change one of the rows. Requests that were sent before Erase may commit afterwards, with the customer: so
	// Erase may find something when it is repeated.
	Erase(ctx context.Context, customer, pseudonym value.CustomerID) (CustomerData, error)
}

// CustomerData counts what a database has of a customer.
type CustomerData struct {
	Key           bool // the customer has a key
	Orders        int
	Requests      int // request keys
	Totals        int // rows of totals, of all subscribers
	Letters       int // dead letters with plain events, discarded ones included
	SealedLetters int // dead letters with sealed events of the customer's orders

	// PlainEvents and SealedEvents are the events of the customer's orders in the log.
	PlainEvents, SealedEvents int
	// Parked are those of these events that wait in the parking lot.
	Parked int
	// Behind has the subscribers that have not applied all events of the customer, sorted by name.
	Behind []Behind
}

// Behind is a subscriber that has not applied all events of a customer.
type Behind struct {
	Subscriber string
	// Events is how many events the subscriber may still apply. Dead letters do not count.
	Events int
}

// Erasable reports whether Erase would change something.
func (d CustomerData) Erasable() bool {
	return d.Key || d.Orders > 0 || d.Requests > 0 || d.Totals > 0 || d.Letters > 0 || d.SealedLetters > 0
}
