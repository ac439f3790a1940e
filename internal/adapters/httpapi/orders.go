package httpapi

import (
	"context"
	"regexp"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// orderRoutes implements the generated interface with the service.
type orderRoutes struct{ service orders.Service }

// PlaceOrder checks all fields, so that one answer names every error. It cannot check an amount whose currency is unknown.
func (o orderRoutes) PlaceOrder(ctx context.Context, request PlaceOrderRequestObject) (PlaceOrderResponseObject, error) {
	in := request.Body
	in.allowOnly("customer_id", "amount", "currency")
	in.require("customer_id", "amount")
	customer := readCustomer(in)
	amount := readAmount(in)
	key := readKey(in, request.Params.IdempotencyKey)
	if err := in.err(); err != nil {
		return nil, err
	}
	placed, err := o.service.Place(requestContext(ctx), customer, amount, key)
	if err != nil {
		return nil, err
	}
	return PlaceOrder201JSONResponse{
		Body:    show(placed),
		Headers: PlaceOrder201ResponseHeaders{Location: "/orders/" + string(placed.ID), ETag: etag(placed)},
	}, nil
}

func readCustomer(in *object) order.CustomerID {
	text, ok := in.text("customer_id")
	if !ok {
		return ""
	}
	customer, err := order.ParseCustomerID(text)
	in.addError(err)
	return customer
}

func readAmount(in *object) order.Money {
	currency := order.DefaultCurrency
	if _, given := in.members["currency"]; given {
		code, ok := in.text("currency")
		if !ok {
			return order.Money{}
		}
		var err error
		if currency, err = order.ParseCurrency(code); err != nil {
			in.addError(err)
			return order.Money{}
		}
	}
	text, ok := in.number("amount")
	if !ok {
		return order.Money{}
	}
	amount, err := order.ParseMoney(text, currency)
	in.addError(err)
	return amount
}

// readNote reads an optional note about a change.
func readNote(in *object, name string) order.Note {
	text, ok := in.text(name)
	if !ok {
		return ""
	}
	note, err := order.ParseNote(text, name)
	in.addError(err)
	return note
}

// readKey reads the header of the idempotency key. Its errors are added to those of the body.
func readKey(in *object, header *string) orders.Key {
	if header == nil {
		return ""
	}
	key, err := parseKey(*header)
	in.addParameterError(err)
	return key
}

// matchHeader is the header in which a client names the versions that a change is for.
const matchHeader = "If-Match"

var (
	entityTag  = regexp.MustCompile(`(W/)?"([!#-~]*)"`)
	entityTags = regexp.MustCompile(`^` + entityTag.String() + `([ \t]*,[ \t]*` + entityTag.String() + `)*$`)
)

// readVersions reads If-Match. It returns nil if every version is allowed, and otherwise the versions in the tags. A weak tag, or a tag
// that is not a version, matches no version (RFC 9110, section 13.1.1).
func readVersions(in *object, header *string) []int64 {
	if header == nil || strings.TrimSpace(*header) == "*" {
		return nil
	}
	text := strings.TrimSpace(*header)
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

// GetOrder answers with the order.
func (o orderRoutes) GetOrder(ctx context.Context, request GetOrderRequestObject) (GetOrderResponseObject, error) {
	var in fieldErrors
	id := readID(&in, request.ID)
	if err := in.err(); err != nil {
		return nil, err
	}
	found, err := o.service.Get(requestContext(ctx), id)
	return GetOrder200JSONResponse{orderResponse(found)}, err
}

func readID(in *fieldErrors, text string) order.ID {
	id, err := order.ParseID(text)
	in.addParameterError(err)
	return id
}

// PayOrder pays the order, and answers with the order right after the payment.
func (o orderRoutes) PayOrder(ctx context.Context, request PayOrderRequestObject) (PayOrderResponseObject, error) {
	in := bodyOrEmpty(request.Body)
	in.allowOnly("reference")
	reference := readNote(in, "reference")
	id, condition, err := readChangeRequest(in, request.ID, request.Params.IdempotencyKey, request.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	paid, err := o.service.Pay(requestContext(ctx), id, reference, condition)
	return PayOrder200JSONResponse{orderResponse(paid)}, err
}

// ShipOrder ships the order, and answers with the order right after the shipment.
func (o orderRoutes) ShipOrder(ctx context.Context, request ShipOrderRequestObject) (ShipOrderResponseObject, error) {
	in := bodyOrEmpty(request.Body)
	in.allowOnly("carrier", "tracking")
	carrier, tracking := readNote(in, "carrier"), readNote(in, "tracking")
	id, condition, err := readChangeRequest(in, request.ID, request.Params.IdempotencyKey, request.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	shipped, err := o.service.Ship(requestContext(ctx), id, carrier, tracking, condition)
	return ShipOrder200JSONResponse{orderResponse(shipped)}, err
}

// CancelOrder cancels the order, and answers with the order right after the cancellation.
func (o orderRoutes) CancelOrder(ctx context.Context, request CancelOrderRequestObject) (CancelOrderResponseObject, error) {
	in := bodyOrEmpty(request.Body)
	in.allowOnly("reason")
	reason := readNote(in, "reason")
	id, condition, err := readChangeRequest(in, request.ID, request.Params.IdempotencyKey, request.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	cancelled, err := o.service.Cancel(requestContext(ctx), id, reason, condition)
	return CancelOrder200JSONResponse{orderResponse(cancelled)}, err
}

// bodyOrEmpty returns an empty object if the body is missing.
func bodyOrEmpty(body *object) *object {
	if body == nil {
		return new(object)
	}
	return body
}

// readChangeRequest reads the parameters that all changes have, and returns all errors of the request.
func readChangeRequest(in *object, id string, key, match *string) (order.ID, orders.Precondition, error) {
	parsed := readID(&in.fieldErrors, id)
	condition := orders.Precondition{Key: readKey(in, key), AllowedVersions: readVersions(in, match)}
	return parsed, condition, in.err()
}

// requestContext returns the context of the HTTP request. The generated code passes gin's context. Nothing may hold gin's context after
// this request, because gin uses it again for other requests.
func requestContext(ctx context.Context) context.Context {
	if c, ok := ctx.(*gin.Context); ok {
		return c.Request.Context()
	}
	return ctx
}

func orderResponse(o order.Snapshot) OrderJSONResponse {
	return OrderJSONResponse{Body: show(o), Headers: OrderResponseHeaders{ETag: etag(o)}}
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
