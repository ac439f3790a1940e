package httpapi

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// orderRoutes serves the orders.
type orderRoutes struct{ service orders.Service }

func (o orderRoutes) serve(routes gin.IRoutes) {
	routes.GET("/orders", handle(o.list))
	routes.POST("/orders", handle(o.place))
	routes.GET("/orders/:id", handle(o.get))
	routes.POST("/orders/:id/pay", handle(o.pay))
	routes.POST("/orders/:id/ship", handle(o.ship))
	routes.POST("/orders/:id/cancel", handle(o.cancel))
	routes.GET("/orders/:id/events", handle(o.events))
}

// place checks all fields, so that one answer names every error. It cannot check an amount whose currency is unknown.
func (o orderRoutes) place(c *gin.Context) error {
	in, err := readObject(c)
	if err != nil {
		return err
	}
	in.allowOnly("customer_id", "amount", "currency")
	in.require("customer_id", "amount")
	customer := readCustomer(in)
	amount := readAmount(in)
	key := readKey(c, in)
	if err := in.err(); err != nil {
		return err
	}
	placed, err := o.service.Place(c.Request.Context(), principalOf(c), customer, amount, key)
	if err != nil {
		return err
	}
	c.Header("Location", "/orders/"+string(placed.ID))
	return answerOrder(c, http.StatusCreated, placed)
}

func readCustomer(in *object) value.CustomerID {
	text, ok := in.text("customer_id")
	if !ok {
		return ""
	}
	customer, err := value.ParseCustomerID(text)
	in.addError(err)
	return customer
}

func readAmount(in *object) value.Money {
	currency := value.DefaultCurrency
	if _, given := in.members["currency"]; given {
		code, ok := in.text("currency")
		if !ok {
			return value.Money{}
		}
		var err error
		if currency, err = value.ParseCurrency(code); err != nil {
			in.addError(err)
			return value.Money{}
		}
	}
	text, ok := in.number("amount")
	if !ok {
		return value.Money{}
	}
	amount, err := value.ParseMoney(text, currency)
	in.addError(err)
	return amount
}

// readNote reads an optional note about a change.
func readNote(in *object, name string) value.Note {
	text, ok := in.text(name)
	if !ok {
		return ""
	}
	note, err := value.ParseNote(text, name)
	in.addError(err)
	return note
}

// readKey reads the header of the idempotency key. Its errors are added to those of the body.
func readKey(c *gin.Context, in *object) orders.Key {
	values := c.Request.Header.Values(keyHeader)
	if len(values) == 0 {
		return ""
	}
	key, err := parseKey(values[0])
	in.addParameterError(err)
	return key
}

// refuseEarly refuses a request that waits for 100 Continue before it sends its body, if its path or its headers are wrong already. Other
// requests send their body anyway, and one answer then names the errors of all parts.
func refuseEarly(c *gin.Context) {
	if !strings.EqualFold(c.GetHeader("Expect"), "100-continue") || !routed(c) {
		return
	}
	in := new(object)
	if strings.Contains(c.FullPath(), "/:id") {
		readID(c, &in.fieldErrors)
		readVersions(c, in)
	}
	readKey(c, in)
	if err := in.err(); err != nil {
		refuseAndClose(c, err)
	}
}

// matchHeader is the header in which a client names the versions that a change is for.
const matchHeader = "If-Match"

var (
	entityTag  = regexp.MustCompile(`(W/)?"([!#-~]*)"`)
	entityTags = regexp.MustCompile(`^` + entityTag.String() + `([ \t]*,[ \t]*` + entityTag.String() + `)*$`)
)

// readVersions reads If-Match. It returns nil if every version is allowed, and otherwise the versions in the tags. A weak tag, or a tag
// that is not a version, matches no version (RFC 9110, section 13.1.1).
func readVersions(c *gin.Context, in *object) []int64 {
	values := c.Request.Header.Values(matchHeader)
	if len(values) == 0 {
		return nil
	}
	text := strings.TrimSpace(values[0])
	if text == "*" {
		return nil
	}
	if !entityTags.MatchString(text) {
		in.addParameter(matchHeader, `must be the ETag of an order, such as "1", several of them with commas between, or *`)
	}
	versions := []int64{}
	for _, tag := range entityTag.FindAllStringSubmatch(text, -1) {
		version, err := strconv.ParseInt(tag[2], 10, 64)
		if err == nil && tag[0] == `"`+strconv.FormatInt(version, 10)+`"` {
			versions = append(versions, version)
		}
	}
	return versions
}

func (o orderRoutes) get(c *gin.Context) error {
	var in fieldErrors
	id := readID(c, &in)
	if err := in.err(); err != nil {
		return err
	}
	found, err := o.service.Get(c.Request.Context(), principalOf(c), id)
	if err != nil {
		return err
	}
	c.Header("ETag", etag(found))
	if unchanged(c, etag(found)) {
		return nil
	}
	return answerOrder(c, http.StatusOK, found)
}

func readID(c *gin.Context, in *fieldErrors) order.ID {
	text := c.Param("id")
	if text == "" {
		in.addParameter("id", "is required")
		return ""
	}
	id, err := order.ParseID(text)
	in.addParameterError(err)
	return id
}

// pay pays the order, and answers with the order right after the payment.
func (o orderRoutes) pay(c *gin.Context) error {
	return change(c, []string{"reference"}, func(id order.ID, notes []value.Note, condition orders.Precondition) (order.Snapshot, error) {
		return o.service.Pay(c.Request.Context(), principalOf(c), id, notes[0], condition)
	})
}

// ship ships the order, and answers with the order right after the shipment.
func (o orderRoutes) ship(c *gin.Context) error {
	return change(c, []string{"carrier", "tracking"}, func(id order.ID, notes []value.Note, condition orders.Precondition) (order.Snapshot, error) {
		return o.service.Ship(c.Request.Context(), principalOf(c), id, notes[0], notes[1], condition)
	})
}

// cancel cancels the order, and answers with the order right after the cancellation.
func (o orderRoutes) cancel(c *gin.Context) error {
	return change(c, []string{"reason"}, func(id order.ID, notes []value.Note, condition orders.Precondition) (order.Snapshot, error) {
		return o.service.Cancel(c.Request.Context(), principalOf(c), id, notes[0], condition)
	})
}

// change reads a request to change an order, and answers with the order that apply returns. The members of the body are optional notes. All
// errors of the request are in one answer.
func change(
	c *gin.Context, members []string, apply func(id order.ID, notes []value.Note, condition orders.Precondition) (order.Snapshot, error),
) error {
	in, err := readOptionalObject(c)
	if err != nil {
		return err
	}
	in.allowOnly(members...)
	notes := make([]value.Note, len(members))
	for n, member := range members {
		notes[n] = readNote(in, member)
	}
	id := readID(c, &in.fieldErrors)
	condition := orders.Precondition{Key: readKey(c, in), AllowedVersions: readVersions(c, in)}
	if err := in.err(); err != nil {
		return err
	}
	changed, err := apply(id, notes, condition)
	if err != nil {
		return err
	}
	return answerOrder(c, http.StatusOK, changed)
}

func answerOrder(c *gin.Context, status int, o order.Snapshot) error {
	c.Header("ETag", etag(o))
	neverCompressed(c)
	return answer(c, status, show(o))
}

func etag(o order.Snapshot) string { return `"` + strconv.FormatInt(o.Version, 10) + `"` }

func show(o order.Snapshot) Order {
	return Order{
		ID:         string(o.ID),
		CustomerID: string(o.CustomerID),
		Amount:     o.Amount.Decimal(),
		Currency:   o.Amount.Currency().String(),
		Status:     OrderStatus(o.Status),
		Version:    o.Version,
		CreatedAt:  o.CreatedAt.UTC(),

		PaymentReference: optional(string(o.PaymentReference)),
		Carrier:          optional(string(o.Carrier)),
		Tracking:         optional(string(o.Tracking)),
		CancelReason:     optional(string(o.CancelReason)),
	}
}

// optional returns nil for the zero value.
func optional[T comparable](value T) *T {
	if value == *new(T) {
		return nil
	}
	return &value
}
