package ordering

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Get reads one order.
func (s *Service) Get(ctx context.Context, who order.Principal, id order.ID) (order.Snapshot, error) {
	if err := who.Require(order.MayRead); err != nil {
		return order.Snapshot{}, err
	}
	found, err := s.ports.Orders.Get(ctx, id)
	switch {
	case err != nil:
		return order.Snapshot{}, err
	case !who.Reaches(found.CustomerID):
		return order.Snapshot{}, notFound(id)
	}
	return found, nil
}

// List reads one order more than the page has, to see whether there is a next page.
func (s *Service) List(ctx context.Context, who order.Principal, filter orders.Filter) (page orders.Page, err error) {
	if err := who.Require(order.MayRead); err != nil {
		return orders.Page{}, err
	}
	if filter.Customer == "" && !who.May(order.MayReachAll) {
		filter.Customer = who.Customer
	}
	if filter.Customer != "" && !who.Reaches(filter.Customer) {
		return orders.Page{}, nil
	}
	wanted := filter.Limit
	filter.Limit++
	page.Orders, err = s.ports.Orders.List(ctx, filter)
	if err != nil || len(page.Orders) <= wanted {
		return page, err
	}
	page.Orders = page.Orders[:wanted]
	last := page.Orders[wanted-1]
	page.Next = &orders.PageCursor{CreatedAt: last.CreatedAt, ID: last.ID}
	return page, nil
}
