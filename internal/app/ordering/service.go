// Package ordering is the use cases of the order service. It judges nothing itself: the aggregate knows what is allowed.
package ordering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// attempts is how often a change is tried when others change the same order at the same time. Each attempt begins with
// reading the order anew, so a change that became impossible meanwhile ends at once.
const maxAttempts = 5

// Ports is what the service drives.
type Ports struct {
	Work    orders.UnitOfWork
	Encoder orders.Encoder
	// Notifier is called after every commit of a change; also when it was made before, because whoever made it may have died
	// before it rang.
	Notifier relay.Notifier
	Log      operations.EventLog
	Finder   relay.Finder
}

// Service keeps an order and its events together: they commit in one unit of work, or neither does.
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

// Place claims the key before it does anything that others wait for, so that a request which waits for the key holds up
// nobody. A refused order claims nothing, so sending it many times fills no table.
func (s *Service) Place(
	ctx context.Context, customer order.CustomerID, amount order.Money, key orders.Key,
) (order.Snapshot, error) {
	id, now := s.newID(), s.timestamp()
	mine := orders.KeyClaim{
		Scope: orders.ScopeOf(customer), Key: key, Order: id,
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
		return s.save(ctx, tx, placed)
	})
}

// claim returns the order that the key was given for first: mine's, unless the same request came before.
func claim(ctx context.Context, keys orders.Keys, mine orders.KeyClaim) (order.ID, error) {
	if mine.Key == "" {
		return mine.Order, nil
	}
	holds, err := keys.Claim(ctx, mine)
	if err != nil {
		return "", err
	}
	return orderOf(holds, mine)
}

// held returns what claim returns, and claims nothing.
func find(ctx context.Context, keys orders.Keys, mine orders.KeyClaim) (order.ID, error) {
	if mine.Key == "" {
		return mine.Order, nil
	}
	holds, found, err := keys.Find(ctx, mine.Scope, mine.Key)
	if err != nil || !found {
		return mine.Order, err
	}
	return orderOf(holds, mine)
}

// answers returns the order that answers mine, if holds is a claim for the same request.
func orderOf(holds, mine orders.KeyClaim) (order.ID, error) {
	if holds.Digest != mine.Digest {
		return "", orders.ErrKeyReused
	}
	return holds.Order, nil
}

// again is the first answer to a request to place an order, though the order may have changed since.
func firstAnswer(ctx context.Context, orders orders.Orders, id order.ID) (order.Snapshot, error) {
	placed, err := orders.Get(ctx, id)
	if err != nil {
		return order.Snapshot{}, err
	}
	return placed.AsPlaced(), nil
}

// Pay implements the port.
func (s *Service) Pay(ctx context.Context, id order.ID, reference order.Note, guard orders.Precondition) (order.Snapshot, error) {
	return s.change(ctx, id, guard, fmt.Sprintf("pay %s %q", id, reference), func(o *order.Order) (order.Snapshot, error) {
		return o.Pay(reference, s.timestamp())
	})
}

// Ship implements the port.
func (s *Service) Ship(
	ctx context.Context, id order.ID, carrier, tracking order.Note, guard orders.Precondition,
) (order.Snapshot, error) {
	return s.change(ctx, id, guard, fmt.Sprintf("ship %s %q %q", id, carrier, tracking), func(o *order.Order) (order.Snapshot, error) {
		return o.Ship(carrier, tracking, s.timestamp())
	})
}

// Cancel implements the port.
func (s *Service) Cancel(ctx context.Context, id order.ID, reason order.Note, guard orders.Precondition) (order.Snapshot, error) {
	return s.change(ctx, id, guard, fmt.Sprintf("cancel %s %q", id, reason), func(o *order.Order) (order.Snapshot, error) {
		return o.Cancel(reason, s.timestamp())
	})
}

// Get implements the port.
func (s *Service) Get(ctx context.Context, id order.ID) (state order.Snapshot, err error) {
	err = s.ports.Work.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		found, err := tx.Orders.Get(ctx, id)
		if err == nil {
			state = found.Snapshot()
		}
		return err
	})
	return state, err
}

// List implements the port.
func (s *Service) List(ctx context.Context, filter orders.Filter) (page orders.Page, err error) {
	wanted := filter.Limit
	filter.Limit++ // one more tells whether there is a next page
	err = s.ports.Work.Do(ctx, func(ctx context.Context, tx orders.Tx) (err error) {
		page.Orders, err = tx.Orders.List(ctx, filter)
		return err
	})
	if err != nil || len(page.Orders) <= wanted {
		return page, err
	}
	page.Orders = page.Orders[:wanted]
	last := page.Orders[wanted-1]
	page.Next = &orders.PageCursor{CreatedAt: last.CreatedAt, ID: last.ID}
	return page, nil
}

// change applies verb to a stored order. request is what is asked for, written in the one way that all requests of its meaning
// are. A change that is refused, or was made before, claims no key: it changes nothing, and whoever sends it again and again,
// with ever new keys, fills no table. If somebody else changed the order since it was read, it is tried again.
func (s *Service) change(
	ctx context.Context, id order.ID, guard orders.Precondition, request string, verb func(*order.Order) (order.Snapshot, error),
) (order.Snapshot, error) {
	try := func(ctx context.Context, tx orders.Tx) (order.Snapshot, error) {
		o, err := tx.Orders.Get(ctx, id)
		if err != nil {
			return order.Snapshot{}, err
		}
		mine := orders.KeyClaim{
			Scope: orders.ScopeOf(o.Snapshot().CustomerID), Key: guard.Key, Digest: orders.DigestOf(request), Order: id,
		}
		state, refused := apply(o, guard, verb)
		if refused != nil || !o.HasEvents() {
			if _, err := find(ctx, tx.Keys, mine); err != nil {
				return order.Snapshot{}, err
			}
			return state, refused
		}
		if _, err := claim(ctx, tx.Keys, mine); err != nil {
			return order.Snapshot{}, err
		}
		return s.save(ctx, tx, o)
	}
	state, err := s.commit(ctx, try)
	for attempt := 1; attempt < maxAttempts && errors.Is(err, orders.ErrOrderChanged); attempt++ {
		state, err = s.commit(ctx, try)
	}
	return state, err
}

// apply makes the change to o, unless it was made before: then o has no events, and the answer is what it was then. A request
// that is sent again names the version that the change was made from, so that version is as good as the present one.
func apply(
	o *order.Order, guard orders.Precondition, verb func(*order.Order) (order.Snapshot, error),
) (order.Snapshot, error) {
	expected := func(version int64) bool {
		return guard.AllowedVersions == nil || slices.Contains(guard.AllowedVersions, version)
	}
	state, refused := verb(o)
	repeated := refused == nil && !o.HasEvents()
	if now := o.StoredVersion(); !expected(now) && (!repeated || !expected(state.Version-1)) {
		return order.Snapshot{}, orders.ErrOrderVersion.With("the order is at version %d, which is none that the request is meant for", now)
	}
	return state, refused
}

// commit does fn in a unit of work, and rings the bell.
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

// save stores o together with its events.
func (s *Service) save(ctx context.Context, tx orders.Tx, o *order.Order) (order.Snapshot, error) {
	messages, err := s.encode(o.PullEvents())
	if err != nil {
		return order.Snapshot{}, err
	}
	if err := tx.Orders.Save(ctx, o); err != nil {
		return order.Snapshot{}, err
	}
	return o.Snapshot(), tx.Outbox.Append(ctx, messages...)
}

func (s *Service) encode(events []order.Event) ([]outbox.Message, error) {
	messages := make([]outbox.Message, 0, len(events))
	for _, event := range events {
		message, err := s.ports.Encoder.Encode(event)
		if err != nil {
			return nil, err
		}
		messages = append(messages, message)
	}
	return messages, nil
}

// moment is now as the database keeps it, so that an order reads the same when it is placed and when it is read again.
func (s *Service) timestamp() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
