// Package webhook posts events to an HTTP endpoint, as CloudEvents in binary mode. A program makes one Endpoint for
// each URL, shares it between all handlers that call the URL, and closes it at the end.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/webhook"
)

const (
	maxHeaders   = 64 << 10 // bytes of an answer's headers
	maxBody      = 64 << 10 // bytes of an answer's body that are read: a read body lets the connection be used again
	bodyWithin   = 250 * time.Millisecond
	maxRedirects = 3
	maxIdle      = 64 // connections that are kept open
)

// Options configures an Endpoint.
type Options struct {
	// URL may hold a user's name and password. They are sent as basic authentication. The URL is never logged.
	URL string
	// Source is the CloudEvents source of every event.
	Source string
}

// Endpoint posts events to a URL.
//
// A status of 2xx means that the endpoint accepted the event. 408, 429 and 5xx are failures of the event. An answer that does not come in
// time is a failure of the event too. 503 with Retry-After is an outage, and so is an endpoint that cannot be reached. Any other status
// is a refusal. A redirect is followed only if it is 307 or 308, which repeat the request unchanged, and only to the same host by the same
// scheme.
type Endpoint struct {
	client *http.Client
	url    string
	host   string // for errors
	source string
}

var _ webhook.Endpoint = (*Endpoint)(nil)

// New returns an endpoint. It does not connect yet.
func New(options Options) (*Endpoint, error) {
	parsed, err := url.Parse(options.URL)
	if err != nil || parsed.Host == "" {
		return nil, errors.New("WEBHOOK_URL is not a URL of http or https") // err is left out: it repeats the URL, which may be secret
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: maxHeaders, MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, DisableCompression: true,
	}
	return &Endpoint{
		client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		url:    options.URL, host: parsed.Host, source: options.Source,
	}, nil
}

// Close closes the idle connections.
func (e *Endpoint) Close() { e.client.CloseIdleConnections() }

// checkRedirect follows a redirect that repeats the request at the same host. Other redirects are final answers.
func checkRedirect(next *http.Request, former []*http.Request) error {
	status := next.Response.StatusCode
	repeats := status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect
	first := former[0].URL
	if !repeats || next.URL.Scheme != first.Scheme || next.URL.Host != first.Host || len(former) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// Deliver posts an event. The transport may send the request again on another connection if the first one was closed before an answer
// came; the key is the same.
func (e *Endpoint) Deliver(ctx context.Context, entry outbox.Entry) error {
	connected := false // whether the latest attempt to get a connection succeeded
	ctx, end := context.WithCancel(ctx)
	defer end()
	tracing := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { connected = false }, GotConn: func(httptrace.GotConnInfo) { connected = true },
	})
	request, err := http.NewRequestWithContext(tracing, http.MethodPost, e.url, bytes.NewReader(entry.Payload))
	if err != nil {
		return errors.New("WEBHOOK_URL is not a URL of http or https")
	}
	e.setHeaders(ctx, request.Header, entry)
	answer, err := e.client.Do(request)
	if err != nil {
		return e.classify(ctx, err, connected)
	}
	defer func() { _ = answer.Body.Close() }()
	defer time.AfterFunc(bodyWithin, end).Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxBody)) // only the status counts
	return e.checkStatus(answer)
}

// classify returns an outage, or a failure of the event. The client's error contains the URL, which may be secret, so classify removes the
// URL.
func (e *Endpoint) classify(ctx context.Context, err error, connected bool) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("the call of %s was given up: %w", e.host, err)
	case !connected:
		return webhook.ErrDown.With("there is no connection to %s", e.host).Wrap(err)
	}
	return fmt.Errorf("%s has not answered: %w", e.host, err)
}

// checkStatus returns the error that a status stands for.
func (e *Endpoint) checkStatus(answer *http.Response) error {
	switch status := answer.StatusCode; {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "":
		return webhook.ErrDown.With("%s answers 503 and asks to come back later", e.host)
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return fmt.Errorf("%s answers %d %s", e.host, status, http.StatusText(status))
	default:
		return webhook.ErrRefused.With("%s answers %d %s", e.host, status, http.StatusText(status))
	}
}

// setHeaders sets the headers of CloudEvents, the idempotency key of the call, and the trace.
func (e *Endpoint) setHeaders(ctx context.Context, header http.Header, entry outbox.Entry) {
	for name, value := range map[string]string{
		"Content-Type": entry.ContentType(), "Idempotency-Key": entry.ID,
		"ce-specversion": "1.0", "ce-id": entry.ID, "ce-type": entry.Type, "ce-source": e.source, "ce-subject": entry.Key.ID,
		"ce-time": entry.RecordedAt.UTC().Format(time.RFC3339Nano), "ce-dataschema": entry.Schema(),
		"ce-aggregatetype": entry.Key.Type, "ce-aggregateversion": strconv.FormatInt(entry.Version, 10),
	} {
		header.Set(name, escape(value))
	}
	for _, name := range []string{outbox.HeaderActorType, outbox.HeaderActorID} {
		if actor, err := url.PathUnescape(entry.Headers[name]); err == nil && actor != "" {
			header.Set(name, escape(actor))
		}
	}
	if trace.SpanContextFromContext(ctx).IsValid() {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	} else if parent := entry.Headers["traceparent"]; parent != "" {
		header.Set("traceparent", escape(parent))
	}
}

// escape encodes a value for a CloudEvents header. Space, quote, percent and everything except printable ASCII become %XX, byte by byte in
// UTF-8.
func escape(value string) string {
	var text strings.Builder
	for i := range len(value) {
		switch c := value[i]; {
		case c <= ' ', c >= 0x7f, c == '"', c == '%':
			fmt.Fprintf(&text, "%%%02X", c)
		default:
			text.WriteByte(c)
		}
	}
	return text.String()
}
