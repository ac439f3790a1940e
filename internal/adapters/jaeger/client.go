// Package jaeger reads traces from Jaeger's query service.
//
// It uses /api/traces, the interface of Jaeger's own pages, which every version since 1.0 has. The newer /api/v3 cannot find traces by tag
// over HTTP, and this package finds the trace of an order by a tag.
package jaeger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

var (
	// ErrUnreachable reports that no server answers at the address, or that the server is not a Jaeger.
	ErrUnreachable = fault.New(fault.Unavailable, "jaeger_unreachable", "Jaeger does not answer")
	// ErrNoTrace reports that Jaeger does not have the trace: not yet, or no longer.
	ErrNoTrace = fault.New(fault.NotFound, "no_such_trace", "Jaeger has no such trace")
)

const (
	timeout    = 10 * time.Second
	mostTraces = 20       // of one search
	mostBytes  = 64 << 20 // of one answer
)

// Client asks one Jaeger.
type Client struct {
	base *url.URL
	http *http.Client
}

// New returns a client of the Jaeger whose pages are at base. It asks nothing yet.
func New(base string) (*Client, error) {
	parsed, err := url.Parse(base)
	if err != nil {
		return nil, fault.New(fault.Invalid, "jaeger_address", "the address of Jaeger is not a URL") // err repeats the address, with its secrets
	}
	return &Client{base: parsed, http: &http.Client{Timeout: timeout}}, nil
}

// Page returns the address of a trace's page, for people. The address has no credentials.
func (c *Client) Page(traceID string) string {
	return shown(c.base.JoinPath("trace", traceID))
}

// shown returns an address without credentials and query, which may be secret.
func shown(address *url.URL) string {
	bare := *address
	bare.User, bare.RawQuery, bare.Fragment = nil, "", ""
	return bare.String()
}

// Services returns the names of the services that have sent spans.
func (c *Client) Services(ctx context.Context) ([]string, error) {
	var services []string
	return services, c.get(ctx, c.base.JoinPath("api", "services"), &services)
}

// Trace returns a trace, or ErrNoTrace. Spans that have not arrived yet are missing.
func (c *Client) Trace(ctx context.Context, id string) (Trace, error) {
	var traces []wireTrace
	if err := c.get(ctx, c.base.JoinPath("api", "traces", id), &traces); err != nil {
		return Trace{}, err
	}
	if len(traces) == 0 {
		return Trace{}, ErrNoTrace.With("Jaeger has no trace %s", id)
	}
	return traces[0].read(), nil
}

// Find returns the newest traces with a matching span, the oldest first. A matching span began at since or later and has the tag with the
// value. Any service may have sent the span. A tag of the service itself counts too.
func (c *Client) Find(ctx context.Context, tag, value string, since time.Time) ([]Trace, error) {
	services, err := c.Services(ctx)
	if err != nil {
		return nil, err
	}
	tags, err := json.Marshal(map[string]string{tag: value})
	if err != nil {
		return nil, err
	}
	found := make(map[string]Trace)
	for _, service := range services { // Jaeger searches one service at a time
		address := c.base.JoinPath("api", "traces")
		address.RawQuery = url.Values{
			"service": {service}, "tags": {string(tags)}, "limit": {strconv.Itoa(mostTraces)},
			"start": {strconv.FormatInt(since.UnixMicro(), 10)}, "end": {strconv.FormatInt(time.Now().UnixMicro(), 10)},
		}.Encode()
		var traces []wireTrace
		if err := c.get(ctx, address, &traces); err != nil {
			return nil, err
		}
		for _, wire := range traces {
			found[wire.TraceID] = wire.read()
		}
	}
	list := make([]Trace, 0, len(found))
	for _, trace := range found {
		list = append(list, trace)
	}
	slices.SortFunc(list, func(a, b Trace) int { return a.Start().Compare(b.Start()) })
	return list, nil
}

// Linked returns the spans of other traces that spans of trace refer to. Spans that Jaeger does not have are missing.
func (c *Client) Linked(ctx context.Context, trace Trace) ([]Span, error) {
	var linked []Span
	asked := make(map[Reference]bool)
	for _, span := range trace.Spans {
		for _, to := range span.References {
			if to.TraceID == trace.ID || asked[to] {
				continue
			}
			asked[to] = true
			other, err := c.Trace(ctx, to.TraceID)
			if errors.Is(err, ErrNoTrace) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if at := slices.IndexFunc(other.Spans, func(s Span) bool { return s.ID == to.SpanID }); at >= 0 {
				linked = append(linked, other.Spans[at])
			}
		}
	}
	return linked, nil
}

// get decodes the field data of an answer into data.
func (c *Client) get(ctx context.Context, address *url.URL, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	answer, err := c.http.Do(request)
	if err != nil {
		return ErrUnreachable.Wrap(errors.Unwrap(err)) // the outer error repeats the address with the whole query
	}
	defer answer.Body.Close()
	var body struct {
		Data   json.RawMessage `json:"data"`
		Errors []struct {
			Message string `json:"msg"`
		} `json:"errors"`
	}
	err = json.NewDecoder(io.LimitReader(answer.Body, mostBytes)).Decode(&body)
	switch {
	case err != nil:
		err = fmt.Errorf("%s does not answer as Jaeger does: %w", shown(address), err)
	case answer.StatusCode == http.StatusNotFound && body.Errors != nil:
		return ErrNoTrace
	case len(body.Errors) > 0:
		err = fmt.Errorf("%s: %s", answer.Status, body.Errors[0].Message)
	case answer.StatusCode != http.StatusOK || body.Data == nil:
		err = fmt.Errorf("%s does not answer as Jaeger does: %s", shown(address), answer.Status)
	default:
		err = json.Unmarshal(body.Data, data)
	}
	if err != nil {
		return ErrUnreachable.Wrap(err)
	}
	return nil
}
