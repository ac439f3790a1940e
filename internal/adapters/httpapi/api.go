// Package httpapi serves the order service over HTTP, and the state of the process on a second, private listener.
//
// openapi.yaml is the contract; the shapes and the routing are generated from it.
package httpapi

import (
	"context"
	"log/slog"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

//go:generate go tool -modfile=../../../tools/go.mod oapi-codegen -config oapi-codegen.yaml openapi.yaml

// Options is what the API needs. Addr, Service and Logger are required; what is nil of OpenTelemetry is taken from its globals.
type Options struct {
	Addr           string // port 0 takes a free one
	Service        ordering.Service
	Logger         *slog.Logger
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Propagator     propagation.TextMapPropagator
	Timeouts       Timeouts
}

// API is the order service's server.
type API struct{ *Server }

// NewAPI makes the server of openapi.yaml's order operations. It does not listen yet.
func NewAPI(options Options) *API {
	timeouts := options.Timeouts.orDefault()
	engine := newEngine(options.Logger, traced(options))
	engine.Use(readBody, endAfter(timeouts.Handle))
	strict := NewStrictHandlerWithOptions(orders{options.Service}, nil, StrictGinServerOptions{
		RequestErrorHandlerFunc:  refuseBody,
		HandlerErrorFunc:         refuse,
		ResponseErrorHandlerFunc: refuse,
	})
	RegisterHandlersWithOptions(engine, strict, GinServerOptions{
		ErrorHandler: refuseParameter,
	})
	answerHead(engine)
	return &API{newServer("API", options.Addr, engine, timeouts, options.Logger)}
}

// refuseParameter answers what the generated code cannot read. Parameters are texts: that is an id which is empty, or, where
// there is no id, a header which is given more than once.
func refuseParameter(c *gin.Context, _ error, _ int) {
	if _, wanted := c.Params.Get("id"); wanted {
		refuse(c, errRequest.On("id", "is required"))
		return
	}
	refuse(c, errRequest.On(ordering.KeyHeader, "is given more than once"))
}

// traced opens the server span of each request, as a child of the caller's, and measures how long it takes.
func traced(options Options) gin.HandlerFunc {
	var opts []otelgin.Option
	if options.TracerProvider != nil {
		opts = append(opts, otelgin.WithTracerProvider(options.TracerProvider))
	}
	if options.MeterProvider != nil {
		opts = append(opts, otelgin.WithMeterProvider(options.MeterProvider))
	}
	if options.Propagator != nil {
		opts = append(opts, otelgin.WithPropagators(options.Propagator))
	}
	return otelgin.Middleware("", opts...)
}

// orders answers the generated interface's requests with the service.
type orders struct{ service ordering.Service }

// PlaceOrder judges all fields before it answers, so that a client learns at once of everything that is wrong. Only an
// amount whose currency is unknown cannot be judged.
func (o orders) PlaceOrder(ctx context.Context, request PlaceOrderRequestObject) (PlaceOrderResponseObject, error) {
	in := request.Body
	in.only("customer_id", "amount", "currency")
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
		Headers: PlaceOrder201ResponseHeaders{Location: "/orders/" + string(placed.ID)},
	}, nil
}

func readCustomer(in *object) order.CustomerID {
	text, ok := in.text("customer_id")
	if !ok {
		return ""
	}
	customer, err := order.ParseCustomerID(text)
	in.judge(err)
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
			in.judge(err)
			return order.Money{}
		}
	}
	text, ok := in.number("amount")
	if !ok {
		return order.Money{}
	}
	amount, err := order.ParseMoney(text, currency)
	in.judge(err)
	return amount
}

// readKey judges the header along with the body.
func readKey(in *object, header *string) ordering.Key {
	if header == nil {
		return ""
	}
	key, err := ordering.ParseKey(*header)
	in.judge(err)
	return key
}

// GetOrder answers with the order as it is.
func (o orders) GetOrder(ctx context.Context, request GetOrderRequestObject) (GetOrderResponseObject, error) {
	found, err := o.about(ctx, request.ID, nil, o.service.Get)
	return GetOrder200JSONResponse{found}, err
}

// PayOrder answers with the order after it was paid.
func (o orders) PayOrder(ctx context.Context, request PayOrderRequestObject) (PayOrderResponseObject, error) {
	paid, err := o.about(ctx, request.ID, request.Body, o.service.Pay)
	return PayOrder200JSONResponse{paid}, err
}

// ShipOrder answers with the order after it was shipped.
func (o orders) ShipOrder(ctx context.Context, request ShipOrderRequestObject) (ShipOrderResponseObject, error) {
	shipped, err := o.about(ctx, request.ID, request.Body, o.service.Ship)
	return ShipOrder200JSONResponse{shipped}, err
}

// CancelOrder answers with the order after it was cancelled.
func (o orders) CancelOrder(ctx context.Context, request CancelOrderRequestObject) (CancelOrderResponseObject, error) {
	cancelled, err := o.about(ctx, request.ID, request.Body, o.service.Cancel)
	return CancelOrder200JSONResponse{cancelled}, err
}

// about does what is done with one order, given nothing but its id. nothing is the body, if there is one.
func (o orders) about(
	ctx context.Context, id string, nothing *object, do func(context.Context, order.ID) (order.Snapshot, error),
) (OrderJSONResponse, error) {
	in := object{}
	if nothing != nil {
		in = *nothing
		in.only()
	}
	known, err := order.ParseID(id)
	in.judge(err)
	if err := in.err(); err != nil {
		return OrderJSONResponse{}, err
	}
	now, err := do(requestContext(ctx), known)
	return OrderJSONResponse{Body: show(now)}, err
}

// requestContext is the request's own context. gin's, which the generated code hands over, is used again for other
// requests, so nothing that may outlive this one must hold it.
func requestContext(ctx context.Context) context.Context {
	if c, ok := ctx.(*gin.Context); ok {
		return c.Request.Context()
	}
	return ctx
}

func show(o order.Snapshot) Order {
	return Order{
		ID:         string(o.ID),
		CustomerID: string(o.CustomerID),
		Amount:     o.Amount.Decimal(),
		Currency:   o.Amount.Currency().String(),
		Status:     OrderStatus(o.Status),
		Version:    o.Version,
		CreatedAt:  o.CreatedAt.UTC(),
	}
}
