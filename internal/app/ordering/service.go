// Package ordering is the use cases of the order service. It judges nothing itself: the aggregate knows what is allowed.
package ordering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// attempts is how often a change is tried when others change the same order at the same time. Each attempt begins with
// reading the order anew, so a change that became impossible meanwhile ends at once.
const attempts = 5

// Service keeps an order and its events together: they commit in one unit of work, or neither does.
type Service struct {
	uow     ordering.UnitOfWork
	encoder ordering.Encoder
	newID   func() order.ID
	now     func() time.Time
	waker   ports.Waker
}

var _ ordering.Service = (*Service)(nil)

// New returns the service. waker is rung after every commit of a change; also when a key shows that the change was made
// before, because whoever made it may have died before it rang.
func New(
	uow ordering.UnitOfWork, encoder ordering.Encoder, newID func() order.ID, now func() time.Time, waker ports.Waker,
) *Service {
	return &Service{uow: uow, encoder: encoder, newID: newID, now: now, waker: waker}
}

// Place implements the port. The key is claimed before anything else is done, so that who waits for it holds up nobody.
func (s *Service) Place(
	ctx context.Context, customer order.CustomerID, amount order.Money, key ordering.Key,
) (order.Snapshot, error) {
	id, now := s.newID(), s.moment()
	mine := ordering.Claim{Key: key, Fingerprint: fingerprint(customer, amount), Order: id}
	return s.commit(ctx, func(ctx context.Context, tx ordering.Tx) (order.Snapshot, error) {
		if key != "" {
			holds, err := tx.Keys.Claim(ctx, mine)
			if err != nil {
				return order.Snapshot{}, err
			}
			if holds != mine {
				return again(ctx, tx.Orders, holds, mine)
			}
		}
		placed, err := order.Place(id, customer, amount, now)
		if err != nil {
			return order.Snapshot{}, err
		}
		return s.save(ctx, tx, placed)
	})
}

// fingerprint is what a request to place an order means, however it was written.
func fingerprint(customer order.CustomerID, amount order.Money) string {
	return fmt.Sprintf("place %s %d %s", customer, amount.Minor(), amount.Currency())
}

// again is the first answer to a request whose key was claimed for it before, though the order may have changed since.
func again(ctx context.Context, orders ordering.Orders, first, mine ordering.Claim) (order.Snapshot, error) {
	if first.Fingerprint != mine.Fingerprint {
		return order.Snapshot{}, ordering.ErrKeyReused
	}
	placed, err := orders.Get(ctx, first.Order)
	if err != nil {
		return order.Snapshot{}, err
	}
	return placed.Placed(), nil
}

// Pay implements the port.
func (s *Service) Pay(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.change(ctx, id, (*order.Order).Pay)
}

// Ship implements the port.
func (s *Service) Ship(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.change(ctx, id, (*order.Order).Ship)
}

// Cancel implements the port.
func (s *Service) Cancel(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.change(ctx, id, (*order.Order).Cancel)
}

// Get implements the port.
func (s *Service) Get(ctx context.Context, id order.ID) (order.Snapshot, error) {
	var state order.Snapshot
	err := s.uow.Do(ctx, func(ctx context.Context, tx ordering.Tx) error {
		found, err := tx.Orders.Get(ctx, id)
		if err != nil {
			return err
		}
		state = found.Snapshot()
		return nil
	})
	if err != nil {
		return order.Snapshot{}, err
	}
	return state, nil
}

// change applies verb to a stored order.
func (s *Service) change(
	ctx context.Context, id order.ID, verb func(*order.Order, time.Time) error,
) (order.Snapshot, error) {
	try := func(ctx context.Context, tx ordering.Tx) (order.Snapshot, error) {
		o, err := tx.Orders.Get(ctx, id)
		if err != nil {
			return order.Snapshot{}, err
		}
		if err := verb(o, s.moment()); err != nil {
			return order.Snapshot{}, err
		}
		return s.save(ctx, tx, o)
	}
	state, err := s.commit(ctx, try)
	for attempt := 1; attempt < attempts && errors.Is(err, ordering.ErrOrderChanged); attempt++ {
		state, err = s.commit(ctx, try)
	}
	return state, err
}

// commit does fn in a unit of work, and rings the bell.
func (s *Service) commit(
	ctx context.Context, fn func(ctx context.Context, tx ordering.Tx) (order.Snapshot, error),
) (order.Snapshot, error) {
	var state order.Snapshot
	err := s.uow.Do(ctx, func(ctx context.Context, tx ordering.Tx) (err error) {
		state, err = fn(ctx, tx)
		return err
	})
	if err != nil {
		return order.Snapshot{}, err
	}
	s.waker.Wake()
	return state, nil
}

// save stores o together with its events.
func (s *Service) save(ctx context.Context, tx ordering.Tx, o *order.Order) (order.Snapshot, error) {
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
		message, err := s.encoder.Encode(event)
		if err != nil {
			return nil, err
		}
		messages = append(messages, message)
	}
	return messages, nil
}

// moment is now as the database keeps it, so that an order reads the same when it is placed and when it is read again.
func (s *Service) moment() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
