package infra

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Client calls the API or the admin API of an instance. Like a program of another team, it shares no code with the server.
type Client struct {
	Address string // host:port
	Token   string // sent as a bearer token; empty: none
}

// Order is an order as the API answers it. TraceID belongs to the request, not to the order.
type Order struct {
	ID               string    `json:"id"`
	Status           string    `json:"status"`
	Version          int64     `json:"version"`
	CreatedAt        time.Time `json:"created_at"`
	PaymentReference string    `json:"payment_reference"`
	Carrier          string    `json:"carrier"`
	Tracking         string    `json:"tracking"`
	TraceID          string    `json:"-"`
}

// OrderEvent is an event of an order, and the state of its delivery.
type OrderEvent struct {
	Delivery   string   `json:"delivery"`
	LagSeconds *float64 `json:"lag_seconds"`
	Reason     string   `json:"reason"`
	TraceID    string   `json:"trace_id"`
}

// Problem is the error of a call that was refused. Status and Header come from the answer itself, the other fields from its body.
type Problem struct {
	Status  int         `json:"-"`
	Header  http.Header `json:"-"`
	Code    string      `json:"code"`
	Detail  string      `json:"detail"`
	TraceID string      `json:"trace_id"`
}

func (p *Problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Code, p.Detail) }

// Call sends a request with a JSON body, and decodes the answer into result unless result is nil. Headers have the form "Name: value". If
// the answer is not a success, Call returns it as a *Problem.
func (c Client) Call(ctx context.Context, method, path, body string, result any, headers ...string) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+c.Address+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		problem := &Problem{Status: answer.StatusCode, Header: answer.Header}
		if err := json.Unmarshal(text, problem); err != nil {
			return nil, fmt.Errorf("%s %s: status %d without a problem: %s", method, path, answer.StatusCode, text)
		}
		return nil, problem
	}
	if result == nil {
		return answer.Header, nil
	}
	if err := json.Unmarshal(text, result); err != nil {
		return nil, fmt.Errorf("%s %s: decode %q: %w", method, path, text, err)
	}
	return answer.Header, nil
}

// OrderEvents returns the events of an order, oldest first.
func (c Client) OrderEvents(ctx context.Context, id string) ([]OrderEvent, error) {
	var answer struct{ Events []OrderEvent }
	_, err := c.Call(ctx, http.MethodGet, "/orders/"+id+"/events", "", &answer)
	return answer.Events, err
}

// order sends a request whose answer is an order.
func (c Client) order(ctx context.Context, method, path, body string, headers ...string) (Order, error) {
	var order Order
	header, err := c.Call(ctx, method, path, body, &order, headers...)
	order.TraceID = header.Get("Trace-Id")
	return order, err
}
