// Package ordering is what can be done with orders: each use case changes one aggregate and records what happened, in one
// transaction.
package ordering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/ordering"
	outboxports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// Service implements ports/ordering.Service. It is safe for concurrent use.
type Service struct {
	work    ports.UnitOfWork
	encoder ports.Encoder
	waker   outboxports.Waker
	newID   func() order.ID
	now     func() time.Time
}

var _ ports.Service = (*Service)(nil)

// New returns the service. newID gives an id that was never given before.
func New(
	work ports.UnitOfWork, encoder ports.Encoder, waker outboxports.Waker, newID func() order.ID, now func() time.Time,
) *Service {
	return &Service{work: work, encoder: encoder, waker: waker, newID: newID, now: now}
}

// clock is the present moment as precisely as it will be stored, so that every answer gives the same one.
func (s *Service) clock() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Place records a new order.
func (s *Service) Place(ctx context.Context, customer order.CustomerID, amount order.Money) (order.Snapshot, error) {
	id := s.newID()
	return s.change(ctx, func(context.Context, ports.Orders) (*order.Order, error) {
		return order.Place(id, customer, amount, s.clock())
	})
}

// Pay records that an order was paid.
func (s *Service) Pay(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.transition(ctx, id, (*order.Order).Pay)
}

// Ship records that an order left the house.
func (s *Service) Ship(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.transition(ctx, id, (*order.Order).Ship)
}

// Cancel records that an order will not be carried out.
func (s *Service) Cancel(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.transition(ctx, id, (*order.Order).Cancel)
}

// Get returns an order.
func (s *Service) Get(ctx context.Context, id order.ID) (order.Snapshot, error) {
	var found order.Snapshot
	err := s.work.Do(ctx, func(ctx context.Context, tx ports.Tx) error {
		o, err := tx.Orders.Get(ctx, id)
		if err == nil {
			found = o.Snapshot()
		}
		return err
	})
	return found, err
}

// attempts is how often a transition is tried when others change the same order at the same time. Each try sees what they
// did, so mostly the second one succeeds or finds that the status does not allow it any more.
const attempts = 5

func (s *Service) transition(ctx context.Context, id order.ID, verb func(*order.Order, time.Time) error) (order.Snapshot, error) {
	for attempt := 1; ; attempt++ {
		changed, err := s.change(ctx, func(ctx context.Context, orders ports.Orders) (*order.Order, error) {
			o, err := orders.Get(ctx, id)
			if err != nil {
				return nil, err
			}
			return o, verb(o, s.clock())
		})
		if !errors.Is(err, ports.ErrOrderChanged) || attempt == attempts {
			return changed, err
		}
	}
}

// change saves what apply did to an order, together with its events, and rings the bell once both are committed.
func (s *Service) change(
	ctx context.Context, apply func(context.Context, ports.Orders) (*order.Order, error),
) (order.Snapshot, error) {
	var changed order.Snapshot
	err := s.work.Do(ctx, func(ctx context.Context, tx ports.Tx) error {
		o, err := apply(ctx, tx.Orders)
		if err != nil {
			return err
		}
		messages, err := s.encode(o.PullEvents())
		if err != nil {
			return err
		}
		if err := tx.Orders.Save(ctx, o); err != nil { // first: it locks the order, so positions ascend with versions
			return err
		}
		changed = o.Snapshot()
		return tx.Outbox.Append(ctx, messages...)
	})
	if err != nil {
		return order.Snapshot{}, err
	}
	s.waker.Wake()
	return changed, nil
}

func (s *Service) encode(events []order.Event) ([]outbox.Message, error) {
	messages := make([]outbox.Message, len(events))
	for i, event := range events {
		message, err := s.encoder.Encode(event)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", event, err)
		}
		messages[i] = message
	}
	return messages, nil
}
