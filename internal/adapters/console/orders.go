package console

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

var (
	errNoOrders = fault.New(fault.NotFound, "no_api", "this process does not serve the API, so its console has no orders")
	errFilter   = fault.New(fault.Invalid, "invalid_filter", "orders cannot be chosen like that")
	errFormKey  = fault.New(fault.Invalid, "invalid_idempotency_key", "the form has no valid key; load the page of orders and send its form")
	errVersion  = fault.New(fault.Invalid, "invalid_version", "the form does not say for which version of the order it is")
	errStale    = fault.New(fault.Conflict, "order_changed_since", "nothing was done, because the order has changed since its page was shown; load its page")
)

// ordersPerPage bounds a page of the list.
const ordersPerPage = 50

// orderStatuses are the statuses of an order, in the order in which they follow each other.
var orderStatuses = []order.Status{order.StatusCreated, order.StatusPaid, order.StatusShipped, order.StatusCancelled}

// consoleUser is the name of the principal of changes by people whose token does not tell its holders apart.
const consoleUser = "console"

// consoleReader is the principal of all reads. It may do nothing else.
var consoleReader = order.Principal{Kind: order.KindOperator, ID: consoleUser, Permissions: []order.Permission{order.MayRead, order.MayReachAll}}

// principalOf returns the principal of a request that changes an order.
func (c *Console) principalOf(r *http.Request) order.Principal {
	who := c.Operator(r)
	if !who.Scope.Allows(operations.ScopeWrite) {
		return consoleReader
	}
	if who.Name == "" {
		return order.SharedToken(consoleUser)
	}
	return order.Operator(who.Name)
}

// orderPages serves the pages about orders. Their forms act at once, as the API does.
type orderPages struct {
	*Console
	journeys *journeyCache
}

func (c *Console) serveOrders() {
	o := &orderPages{Console: c, journeys: newJourneyCache()}
	c.get("/orders", o.list)
	c.get("/orders/{id}", o.orFailWithoutAPI(o.one))
	c.post("/orders", o.orFailWithoutAPI(o.place))
	for verb, change := range o.changes() {
		c.post("/orders/{id}/"+verb, o.orFailWithoutAPI(change))
	}
}

// orFailWithoutAPI returns serve, which is called only if this process has the order service.
func (o *orderPages) orFailWithoutAPI(serve func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if o.Orders == nil {
			return errNoOrders
		}
		return serve(w, r)
	}
}

// orderList is the data of the list.
type orderList struct {
	Unserved   bool // this process does not serve the API
	Orders     []order.Snapshot
	Statuses   []order.Status
	Filter     filterForm
	Next       string // address of the next page; empty: there is none
	First      string // address of the first page; empty: this is the first page
	Currency   value.Currency
	Customer   string // for the form that places an order
	Key        string // of that form; a form that is sent twice makes one order
	MaxPerPage int
}

// filterForm is the filter as the form shows it.
type filterForm struct {
	Customer, From, Before string
	Status                 order.Status
}

// list shows a page of the orders.
func (o *orderPages) list(w http.ResponseWriter, r *http.Request) error {
	if o.Orders == nil {
		return o.show(w, r, "orders", http.StatusOK, orderList{Unserved: true})
	}
	query := r.URL.Query()
	filter, shown, err := readFilter(query)
	if err != nil {
		return err
	}
	page, err := o.Orders.List(r.Context(), consoleReader, filter)
	if err != nil {
		return err
	}
	data := orderList{
		Orders: page.Orders, Statuses: orderStatuses, Filter: shown, Currency: value.DefaultCurrency, Customer: newUUID(), Key: newUUID(), MaxPerPage: ordersPerPage,
	}
	if filter.After != nil {
		data.First = listAddress(query, nil)
	}
	if page.Next != nil {
		data.Next = listAddress(query, page.Next)
	}
	return o.show(w, r, "orders", http.StatusOK, data)
}

func newUUID() string { return uuid.Must(uuid.NewV7()).String() }

// listAddress returns the address of the page after a cursor, with the filter of query.
func listAddress(query url.Values, after *orders.PageCursor) string {
	kept := make(url.Values)
	for _, name := range []string{"customer_id", "status", "created_from", "created_before"} {
		if value := query.Get(name); value != "" {
			kept.Set(name, value)
		}
	}
	if after != nil {
		kept.Set("cursor", cursorText(*after))
	}
	if len(kept) == 0 {
		return Path + "/orders"
	}
	return Path + "/orders?" + kept.Encode()
}

// readFilter reads the filter, with the parameters of the API. An empty parameter excludes no order.
func readFilter(query url.Values) (filter orders.Filter, shown filterForm, err error) {
	filter.Limit = ordersPerPage
	if text := strings.TrimSpace(query.Get("customer_id")); text != "" {
		if filter.Customer, err = value.ParseCustomerID(text); err != nil {
			return filter, shown, err
		}
	}
	if filter.Status, err = readStatus(query.Get("status")); err != nil {
		return filter, shown, err
	}
	if filter.CreatedFrom, err = readFilterTime(query, "created_from"); err != nil {
		return filter, shown, err
	}
	if filter.CreatedBefore, err = readFilterTime(query, "created_before"); err != nil {
		return filter, shown, err
	}
	if text := query.Get("cursor"); text != "" {
		cursor, valid := readCursor(text)
		if !valid {
			return filter, shown, errFilter.With("cursor must be the one of a link to a next page")
		}
		filter.After = &cursor
	}
	shown = filterForm{
		Customer: string(filter.Customer), Status: filter.Status, From: inputTime(filter.CreatedFrom), Before: inputTime(filter.CreatedBefore),
	}
	return filter, shown, nil
}

func readStatus(text string) (order.Status, error) {
	for _, status := range orderStatuses {
		if text == string(status) || text == "" {
			return order.Status(text), nil
		}
	}
	return "", errFilter.With("status must be created, paid, shipped or cancelled")
}

// inputLayout is how browsers send the value of an input of the type datetime-local. The console takes it for UTC. A browser may add seconds.
const inputLayout = "2006-01-02T15:04"

// parseTime reads a time as the API takes it, or as browsers send it.
func parseTime(text string) (at time.Time, valid bool) {
	for _, layout := range []string{time.RFC3339, inputLayout, inputLayout + ":05"} {
		if at, err := time.Parse(layout, text); err == nil && at.UTC().Year() >= 1 && at.UTC().Year() <= 9999 {
			return at.UTC(), true
		}
	}
	return time.Time{}, false
}

// readFilterTime reads a time of the filter.
func readFilterTime(query url.Values, name string) (time.Time, error) {
	text := strings.TrimSpace(query.Get(name))
	if text == "" {
		return time.Time{}, nil
	}
	if at, valid := parseTime(text); valid {
		return at, nil
	}
	return time.Time{}, errFilter.With("%s must be a time such as 2026-11-25T08:00:00Z", name)
}

func inputTime(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.Format(inputLayout + ":05.999")
}

// cursorText encodes a page cursor as a text for links. The times of orders are precise to a microsecond.
func cursorText(cursor orders.PageCursor) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(cursor.CreatedAt.UnixMicro(), 10) + " " + string(cursor.ID)))
}

// readCursor decodes a text that cursorText made. It reports false for any other text.
func readCursor(text string) (cursor orders.PageCursor, valid bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return cursor, false
	}
	micro, rest, _ := strings.Cut(string(raw), " ")
	at, invalid := strconv.ParseInt(micro, 10, 64)
	id, unknown := order.ParseID(rest)
	cursor = orders.PageCursor{CreatedAt: time.UnixMicro(at).UTC(), ID: id}
	year := cursor.CreatedAt.Year()
	return cursor, invalid == nil && unknown == nil && year >= 1 && year <= 9999 && cursorText(cursor) == text
}

// place places an order, and leads to its page. The key of the form makes sure that a form that is sent twice makes one order.
func (o *orderPages) place(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return errForm.Wrap(err)
	}
	field := func(name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }
	customer, err := value.ParseCustomerID(field("customer_id"))
	if err != nil {
		return err
	}
	currency, err := value.ParseCurrency(strings.ToUpper(field("currency")))
	if err != nil {
		return err
	}
	amount, err := value.ParseMoney(field("amount"), currency)
	if err != nil {
		return err
	}
	if uuid.Validate(field("key")) != nil {
		return errFormKey
	}
	placed, err := o.Orders.Place(r.Context(), o.principalOf(r), customer, amount, orders.Key(field("key")))
	if err != nil {
		return err
	}
	said(w, "The order is placed.")
	http.Redirect(w, r, orderAddress(placed.ID), http.StatusSeeOther)
	return nil
}

func orderAddress(id order.ID) string { return Path + "/orders/" + string(id) }
