package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// orderChange is a form that changes an order.
type orderChange struct {
	Verb   string // last part of the address: pay
	Title  string // of the button: Pay the order
	Final  bool   // the order ends
	Fields []orderField
}

// orderField is an optional note of a change.
type orderField struct{ Name, Label string }

var (
	payForm  = orderChange{Verb: "pay", Title: "Pay the order", Fields: []orderField{{"reference", "Payment reference"}}}
	shipForm = orderChange{Verb: "ship", Title: "Ship the order", Fields: []orderField{{"carrier", "Carrier"}, {"tracking", "Tracking number"}}}
	endForm  = orderChange{Verb: "cancel", Title: "Cancel the order", Final: true, Fields: []orderField{{"reason", "Reason"}}}
)

// changesOf returns the forms that an order of a status allows.
func changesOf(status order.Status) []orderChange {
	switch status {
	case order.StatusCreated:
		return []orderChange{payForm, endForm}
	case order.StatusPaid:
		return []orderChange{shipForm, endForm}
	case order.StatusShipped, order.StatusCancelled:
	}
	return nil
}

// changes returns what serves each form.
func (o *orderPages) changes() map[string]func(w http.ResponseWriter, r *http.Request) error {
	return map[string]func(w http.ResponseWriter, r *http.Request) error{
		payForm.Verb: o.change(payForm, "The order is paid.", func(ctx context.Context, who order.Principal, id order.ID, notes []value.Note, condition orders.Precondition) error {
			_, err := o.Orders.Pay(ctx, who, id, notes[0], condition)
			return err
		}),
		shipForm.Verb: o.change(shipForm, "The order is shipped.", func(ctx context.Context, who order.Principal, id order.ID, notes []value.Note, condition orders.Precondition) error {
			_, err := o.Orders.Ship(ctx, who, id, notes[0], notes[1], condition)
			return err
		}),
		endForm.Verb: o.change(endForm, "The order is cancelled.", func(ctx context.Context, who order.Principal, id order.ID, notes []value.Note, condition orders.Precondition) error {
			_, err := o.Orders.Cancel(ctx, who, id, notes[0], condition)
			return err
		}),
	}
}

// change serves a form. The version that the page showed is the precondition, so that a page that is out of date changes nothing. A form that is
// sent twice gets the first answer.
func (o *orderPages) change(
	form orderChange, done string, apply func(ctx context.Context, who order.Principal, id order.ID, notes []value.Note, condition orders.Precondition) error,
) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := order.ParseID(r.PathValue("id"))
		if err != nil {
			return err
		}
		version, notes, err := readChange(r, form)
		if err != nil {
			return &failedAt{err, orderAddress(id)}
		}
		err = apply(r.Context(), o.principalOf(r), id, notes, orders.Precondition{AllowedVersions: []int64{version}})
		o.journeys.forget(id) // also after a conflict: the next page shows what is there now
		switch stale := []error{orders.ErrOrderVersion, orders.ErrOrderChanged}; {
		case slices.ContainsFunc(stale, func(reason error) bool { return errors.Is(err, reason) }):
			return &failedAt{errStale.Wrap(err), orderAddress(id)}
		case err != nil:
			return &failedAt{err, orderAddress(id)}
		}
		said(w, done)
		http.Redirect(w, r, orderAddress(id), http.StatusSeeOther)
		return nil
	}
}

// readChange reads the version that the page showed, and the notes of a form.
func readChange(r *http.Request, form orderChange) (version int64, notes []value.Note, err error) {
	if err := r.ParseForm(); err != nil {
		return 0, nil, errForm.Wrap(err)
	}
	version, err = strconv.ParseInt(r.PostForm.Get("version"), 10, 64)
	if err != nil || version < 1 {
		return 0, nil, errVersion
	}
	notes = make([]value.Note, len(form.Fields))
	for n, field := range form.Fields {
		if text := strings.TrimSpace(r.PostForm.Get(field.Name)); text != "" {
			if notes[n], err = value.ParseNote(text, field.Name); err != nil {
				return 0, nil, err
			}
		}
	}
	return version, notes, nil
}
