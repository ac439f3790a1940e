// Package ordering implements orders.Service: it loads an order, lets the aggregate decide, and saves the order and its events in one
// transaction. A program makes a Service with New, and runs Sweep beside it.
package ordering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// maxAttempts is how many times the service tries a change while others change the same order. Each attempt reads the order again. If the
// order does not allow the change any more, there is no further attempt.
const maxAttempts = 5

// Ports is the driven ports of the service.
type Ports struct {
	Work    orders.UnitOfWork
	Orders  orders.OrderReader
	Encoder orders.Encoder
	// Seal says whether the payload of each event is sealed with the key of the order's customer.
	Seal bool
	// Notifier wakes the relay after every commit. The service also notifies after a repeated request that changes nothing: the process
	// that made the change may have died before it notified the relay.
	Notifier relay.Notifier
	Log      operations.EventLog
	Finder   relay.Finder
}

// Service places, changes and reads orders. An order and its events commit in one unit of work, or neither does.
type Service struct {
	ports Ports
	newID func() order.ID
	now   func() time.Time
}

var _ orders.Service = (*Service)(nil)

// New returns the service.
func New(ports Ports, newID func() order.ID, now func() time.Time) *Service {
	return &Service{ports: ports, newID: newID, now: now}
}

// Place claims the key before it does anything for which others wait. So a request that waits for the key blocks nobody. A refused order
// claims no key: if a client sends such a request many times, the table of keys does not grow.
func (s *Service) Place(
	ctx context.Context, who order.Principal, customer value.CustomerID, amount value.Money, key orders.Key,
) (order.Snapshot, error) {
	if err := mayPlace(who, customer); err != nil {
		return order.Snapshot{}, err
	}
	id, now := s.newID(), s.timestamp()
	mine := orders.KeyClaim{
		Scope: orders.ScopeOf(who, customer), Key: key, Order: id,
		Digest: orders.DigestOf(fmt.Sprintf("place %s %d %s", customer, amount.Minor(), amount.Currency())),
	}
	return s.commit(ctx, func(ctx context.Context, tx orders.Tx) (order.Snapshot, error) {
		placed, refused := order.Place(id, customer, amount, now)
		lookUp := claim
		if refused != nil {
			lookUp = find
		}
		first, err := lookUp(ctx, tx.Keys, mine)
		switch {
		case err != nil:
			return order.Snapshot{}, err
		case first != id:
			return firstAnswer(ctx, tx.Orders, first)
		case refused != nil:
			return order.Snapshot{}, refused
		}
		return s.save(ctx, tx, who, placed)
	})
}

// claim claims the key, and returns the order that the first request with this key made. If no request came before, mine is the first one.
func claim(ctx context.Context, keys orders.Keys, mine orders.KeyClaim) (order.ID, error) {
	if mine.Key == "" {
		return mine.Order, nil
	}
	first, err := keys.Claim(ctx, mine)
	if err != nil {
		return "", err
	}
	return orderOf(first, mine)
}

// find returns the same as claim, but does not claim the key.
func find(ctx context.Context, keys orders.Keys, mine orders.KeyClaim) (order.ID, error) {
	if mine.Key == "" {
		return mine.Order, nil
	}
	first, found, err := keys.Find(ctx, mine.Scope, mine.Key)
	if err != nil || !found {
		return mine.Order, err
	}
	return orderOf(first, mine)
}

// orderOf returns the order that the first request made. If the first request is not the same as mine, it returns orders.ErrKeyReused.
func orderOf(first, mine orders.KeyClaim) (order.ID, error) {
	if first.Digest != mine.Digest {
		return "", orders.ErrKeyReused
	}
	return first.Order, nil
}

// firstAnswer returns the first answer to a request to place an order. The order may have changed since.
func firstAnswer(ctx context.Context, orders orders.Orders, id order.ID) (order.Snapshot, error) {
	placed, err := orders.Get(ctx, id)
	if err != nil {
		return order.Snapshot{}, err
	}
	return placed.AsPlaced(), nil
}

// Pay marks an order as paid.
func (s *Service) Pay(
	ctx context.Context, who order.Principal, id order.ID, reference value.Note, condition orders.Precondition,
) (order.Snapshot, error) {
	return s.change(ctx, author{who, order.MayPay}, id, condition, fmt.Sprintf("pay %s %q", id, reference), func(o *order.Order) (order.Snapshot, error) {
		return o.Pay(reference, s.timestamp())
	})
}

// Ship marks an order as shipped.
func (s *Service) Ship(
	ctx context.Context, who order.Principal, id order.ID, carrier, tracking value.Note, condition orders.Precondition,
) (order.Snapshot, error) {
	return s.change(ctx, author{who, order.MayShip}, id, condition, fmt.Sprintf("ship %s %q %q", id, carrier, tracking), func(o *order.Order) (order.Snapshot, error) {
		return o.Ship(carrier, tracking, s.timestamp())
	})
}

// Cancel marks an order as cancelled.
func (s *Service) Cancel(
	ctx context.Context, who order.Principal, id order.ID, reason value.Note, condition orders.Precondition,
) (order.Snapshot, error) {
	return s.change(ctx, author{who, order.MayCancel}, id, condition, fmt.Sprintf("cancel %s %q", id, reason), func(o *order.Order) (order.Snapshot, error) {
		return o.Cancel(reason, s.timestamp())
	})
}

// change applies verb to a stored order. request is the text for the digest (see orders.DigestOf). A change that is refused, or was made
// before, claims no key: if a client sends such a request many times, with different keys, the table of keys does not grow. If somebody
// else has changed the order since it was read, change tries again.
func (s *Service) change(
	ctx context.Context, by author, id order.ID, condition orders.Precondition, request string,
	verb func(*order.Order) (order.Snapshot, error),
) (order.Snapshot, error) {
	if err := by.who.Require(by.needs); err != nil {
		return order.Snapshot{}, err
	}
	try := func(ctx context.Context, tx orders.Tx) (order.Snapshot, error) {
		o, err := tx.Orders.Get(ctx, id)
		if err != nil {
			return order.Snapshot{}, err
		}
		customer := o.Snapshot().CustomerID
		if !by.who.Reaches(customer) {
			return order.Snapshot{}, notFound(id)
		}
		mine := orders.KeyClaim{
			Scope: orders.ScopeOf(by.who, customer), Key: condition.Key, Digest: orders.DigestOf(request), Order: id,
		}
		state, refused := apply(o, condition, verb)
		if refused != nil || !o.HasEvents() {
			if _, err := find(ctx, tx.Keys, mine); err != nil {
				return order.Snapshot{}, err
			}
			return state, refused
		}
		if _, err := claim(ctx, tx.Keys, mine); err != nil {
			return order.Snapshot{}, err
		}
		return s.save(ctx, tx, by.who, o)
	}
	state, err := s.commit(ctx, try)
	for attempt := 1; attempt < maxAttempts && errors.Is(err, orders.ErrOrderChanged); attempt++ {
		state, err = s.commit(ctx, try)
	}
	return state, err
}

// apply applies verb to o, and checks the version. If the change was made before, o has no events afterwards, and apply returns the first
// answer. A request that is sent again names the version of the first request, so apply also accepts the version before that change.
func apply(
	o *order.Order, condition orders.Precondition, verb func(*order.Order) (order.Snapshot, error),
) (order.Snapshot, error) {
	allowed := func(version int64) bool {
		return condition.AllowedVersions == nil || slices.Contains(condition.AllowedVersions, version)
	}
	state, refused := verb(o)
	repeated := refused == nil && !o.HasEvents()
	if now := o.StoredVersion(); !allowed(now) && (!repeated || !allowed(state.Version-1)) {
		return order.Snapshot{}, orders.ErrOrderVersion.With("the order is at version %d; the request allows only versions %v", now, condition.AllowedVersions)
	}
	return state, refused
}

// commit runs fn in a unit of work. After the commit, it notifies the relay.
func (s *Service) commit(
	ctx context.Context, fn func(ctx context.Context, tx orders.Tx) (order.Snapshot, error),
) (order.Snapshot, error) {
	var state order.Snapshot
	err := s.ports.Work.Do(ctx, func(ctx context.Context, tx orders.Tx) (err error) {
		state, err = fn(ctx, tx)
		return err
	})
	if err != nil {
		return order.Snapshot{}, err
	}
	s.ports.Notifier.Notify()
	return state, nil
}

// save stores o and its events, which name the principal.
func (s *Service) save(ctx context.Context, tx orders.Tx, who order.Principal, o *order.Order) (order.Snapshot, error) {
	messages, err := s.encode(o.PullEvents(), who)
	if err != nil {
		return order.Snapshot{}, err
	}
	if s.ports.Seal {
		if err := seal(ctx, tx.CustomerKeys, messages, who, o.Snapshot().CustomerID); err != nil {
			return order.Snapshot{}, err
		}
	}
	if err := tx.Orders.Save(ctx, o); err != nil {
		return order.Snapshot{}, err
	}
	return o.Snapshot(), tx.Outbox.Append(ctx, messages...)
}

func (s *Service) encode(events []order.Event, who order.Principal) ([]outbox.Message, error) {
	messages := make([]outbox.Message, 0, len(events))
	for _, event := range events {
		message, err := s.ports.Encoder.Encode(event, who)
		if err != nil {
			return nil, err
		}
		messages = append(messages, message)
	}
	return messages, nil
}

// seal seals each message with the customer's key. It comes before the order is saved, because Eraser locks the key first, too. If the customer
// sent the request, the messages do not name the principal: the header is not sealed, and can name the customer.
func seal(ctx context.Context, keys orders.CustomerKeys, messages []outbox.Message, who order.Principal, customer value.CustomerID) error {
	key, err := keys.Hold(ctx, customer)
	if err != nil {
		return err
	}
	for i, message := range messages {
		if who.Customer == customer {
			delete(message.Headers, outbox.HeaderActorID)
		}
		if messages[i], err = message.Seal(key); err != nil {
			return err
		}
	}
	return nil
}

// timestamp returns the current time in the precision of the database, so that a new order equals the stored one.
func (s *Service) timestamp() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
