package memory

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// orderRepository holds the orders of one transaction.
type orderRepository struct {
	*transaction
	from  *UnitOfWork
	saved map[order.ID]order.Snapshot
}

var _ orders.Orders = (*orderRepository)(nil)

// Get also sees what this transaction has saved.
func (s *orderRepository) Get(ctx context.Context, id order.ID) (*order.Order, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	state, found := s.find(id)
	if !found {
		return nil, orders.ErrOrderNotFound.With("there is no order %s", id)
	}
	return order.Rehydrate(state), nil
}

func (s *orderRepository) find(id order.ID) (order.Snapshot, bool) {
	if state, found := s.saved[id]; found {
		return state, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state, found := s.from.orders[id]
	return state, found
}

// Save waits for a transaction that has saved the order.
func (s *orderRepository) Save(ctx context.Context, o *order.Order) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if o.HasEvents() {
		return orders.ErrEventsNotPulled
	}
	state := o.Snapshot()
	if _, mine := s.saved[state.ID]; !mine {
		if err := s.from.saving.claim(ctx, state.ID); err != nil {
			return err
		}
	}
	before, found := s.find(state.ID)
	if o.StoredVersion() == before.Version && (!found || state.CustomerID == before.CustomerID) {
		s.saved[state.ID] = state
		return nil
	}
	if _, mine := s.saved[state.ID]; !mine {
		s.from.saving.release(state.ID)
	}
	if o.StoredVersion() == 0 && found {
		s.aborted = true
		return orders.ErrOrderExists.With("there is an order %s already", state.ID)
	}
	return orders.ErrOrderChanged.With("order %s is not at version %d any more", state.ID, o.StoredVersion())
}

// OrderReader reads the committed orders of a UnitOfWork.
type OrderReader struct{ from *UnitOfWork }

var _ orders.OrderReader = OrderReader{}

// NewOrderReader returns a reader of the committed orders of a UnitOfWork.
func NewOrderReader(from *UnitOfWork) OrderReader { return OrderReader{from} }

// Get fails while the database is disconnected.
func (r OrderReader) Get(ctx context.Context, id order.ID) (order.Snapshot, error) {
	if _, err := r.from.begin(ctx); err != nil {
		return order.Snapshot{}, err
	}
	state, found := r.from.Order(id)
	if !found {
		return order.Snapshot{}, orders.ErrOrderNotFound.With("there is no order %s", id)
	}
	return state, nil
}

// List fails while the database is disconnected.
func (r OrderReader) List(ctx context.Context, filter orders.Filter) ([]order.Snapshot, error) {
	if _, err := r.from.begin(ctx); err != nil {
		return nil, err
	}
	r.from.mu.Lock()
	defer r.from.mu.Unlock()
	var found []order.Snapshot
	for _, state := range r.from.orders {
		if matches(state, filter) {
			found = append(found, state)
		}
	}
	slices.SortFunc(found, func(a, b order.Snapshot) int { return -compare(a, orders.PageCursor{CreatedAt: b.CreatedAt, ID: b.ID}) })
	return found[:min(len(found), filter.Limit)], nil
}

func matches(o order.Snapshot, filter orders.Filter) bool {
	return (filter.Customer == "" || o.CustomerID == filter.Customer) &&
		(filter.Status == "" || o.Status == filter.Status) &&
		!o.CreatedAt.Before(filter.CreatedFrom) &&
		(filter.CreatedBefore.IsZero() || o.CreatedAt.Before(filter.CreatedBefore)) &&
		(filter.After == nil || compare(o, *filter.After) < 0)
}

// compare orders by time of creation, then by id.
func compare(o order.Snapshot, place orders.PageCursor) int {
	return cmp.Or(o.CreatedAt.Compare(place.CreatedAt), cmp.Compare(o.ID, place.ID))
}

// appender is the outbox port of one transaction.
type appender struct {
	*transaction
	writer *Writer
}

var _ relay.Appender = (*appender)(nil)

// Append gives out positions at once. After some errors the transaction cannot commit.
func (a *appender) Append(ctx context.Context, messages ...outbox.Message) error {
	if err := a.usable(ctx); err != nil {
		return err
	}
	err := a.writer.Append(ctx, messages...)
	a.aborted = errors.Is(err, relay.ErrVersionTaken) || errors.Is(err, relay.ErrSequenceBehind)
	return err
}
