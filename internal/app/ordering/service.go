// Package ordering is the use cases of the order service. It judges nothing itself: the aggregate knows what is allowed.
package ordering

import (
	"context"
	"errors"
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

// New returns the service. waker is rung after every commit that recorded an event.
func New(
	uow ordering.UnitOfWork, encoder ordering.Encoder, newID func() order.ID, now func() time.Time, waker ports.Waker,
) *Service {
	return &Service{uow: uow, encoder: encoder, newID: newID, now: now, waker: waker}
}

// Place implements the port.
func (s *Service) Place(ctx context.Context, customer order.CustomerID, amount order.Money) (order.Snapshot, error) {
	id, now := s.newID(), s.moment()
	return s.commit(ctx, func(context.Context, ordering.Orders) (*order.Order, error) {
		return order.Place(id, customer, amount, now)
	})
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
	load := func(ctx context.Context, orders ordering.Orders) (*order.Order, error) {
		o, err := orders.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		return o, verb(o, s.moment())
	}
	state, err := s.commit(ctx, load)
	for attempt := 1; attempt < attempts && errors.Is(err, ordering.ErrOrderChanged); attempt++ {
		state, err = s.commit(ctx, load)
	}
	return state, err
}

// commit stores the order that obtain returns together with its events, and rings the bell.
func (s *Service) commit(
	ctx context.Context, obtain func(context.Context, ordering.Orders) (*order.Order, error),
) (order.Snapshot, error) {
	var state order.Snapshot
	err := s.uow.Do(ctx, func(ctx context.Context, tx ordering.Tx) error {
		o, err := obtain(ctx, tx.Orders)
		if err != nil {
			return err
		}
		messages, err := s.encode(o.PullEvents())
		if err != nil {
			return err
		}
		if err := tx.Orders.Save(ctx, o); err != nil {
			return err
		}
		state = o.Snapshot()
		return tx.Outbox.Append(ctx, messages...)
	})
	if err != nil {
		return order.Snapshot{}, err
	}
	s.waker.Wake()
	return state, nil
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
