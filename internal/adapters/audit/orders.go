// Package audit logs who changed what. Orders wraps the order service.
package audit

import (
	"context"
	"errors"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Message is the message of each line of the audit.
const Message = "audit"

// Orders returns next with a log line for each call that changes an order, or is refused for lack of a permission. There are no lines if
// nobody checks who sends requests. Refusals of other kinds, and reads, have no lines either.
func Orders(logger *slog.Logger, next orders.Service) orders.Service {
	return &orderService{logger: logger, next: next}
}

type orderService struct {
	logger *slog.Logger
	next   orders.Service
}

func (s *orderService) Place(
	ctx context.Context, who order.Principal, customer value.CustomerID, amount value.Money, key orders.Key,
) (order.Snapshot, error) {
	placed, err := s.next.Place(ctx, who, customer, amount, key)
	s.changed(ctx, who, "order.place", placed.ID, err)
	return placed, err
}

func (s *orderService) Pay(
	ctx context.Context, who order.Principal, id order.ID, reference value.Note, condition orders.Precondition,
) (order.Snapshot, error) {
	paid, err := s.next.Pay(ctx, who, id, reference, condition)
	s.changed(ctx, who, "order.pay", id, err)
	return paid, err
}

func (s *orderService) Ship(
	ctx context.Context, who order.Principal, id order.ID, carrier, tracking value.Note, condition orders.Precondition,
) (order.Snapshot, error) {
	shipped, err := s.next.Ship(ctx, who, id, carrier, tracking, condition)
	s.changed(ctx, who, "order.ship", id, err)
	return shipped, err
}

func (s *orderService) Cancel(
	ctx context.Context, who order.Principal, id order.ID, reason value.Note, condition orders.Precondition,
) (order.Snapshot, error) {
	cancelled, err := s.next.Cancel(ctx, who, id, reason, condition)
	s.changed(ctx, who, "order.cancel", id, err)
	return cancelled, err
}

func (s *orderService) Get(ctx context.Context, who order.Principal, id order.ID) (order.Snapshot, error) {
	found, err := s.next.Get(ctx, who, id)
	s.refused(ctx, who, "order.get", id, err)
	return found, err
}

func (s *orderService) List(ctx context.Context, who order.Principal, filter orders.Filter) (orders.Page, error) {
	page, err := s.next.List(ctx, who, filter)
	s.refused(ctx, who, "order.list", "", err)
	return page, err
}

func (s *orderService) Events(ctx context.Context, who order.Principal, id order.ID) ([]orders.Event, error) {
	events, err := s.next.Events(ctx, who, id)
	s.refused(ctx, who, "order.events", id, err)
	return events, err
}

// changed logs a change, or that it was refused for lack of a permission.
func (s *orderService) changed(ctx context.Context, who order.Principal, action string, id order.ID, err error) {
	if err == nil {
		s.log(ctx, who, action, id, "done")
	}
	s.refused(ctx, who, action, id, err)
}

func (s *orderService) refused(ctx context.Context, who order.Principal, action string, id order.ID, err error) {
	var f *fault.Error
	if errors.As(err, &f) && f.Code == order.ErrPermission.Code {
		s.log(ctx, who, action, id, f.Code)
	}
}

func (s *orderService) log(ctx context.Context, who order.Principal, action string, id order.ID, outcome string) {
	if who.Kind == order.KindAnyone {
		return
	}
	s.logger.InfoContext(ctx, Message, "action", action, "order_id", string(id), "actor_type", string(who.Kind), "actor", who.ID, "outcome", outcome)
}
