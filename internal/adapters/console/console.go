// Package console serves web pages to people who watch and operate the relay and its subscribers. It drives the same ports as the commands
// of cmd/outboxie, and decides nothing itself. The pages work without JavaScript, except that they do not refresh by themselves.
package console

import (
	"context"
	"html/template"
	"log/slog"
	"net/http"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Options configures a Console. Fields without a comment are required.
type Options struct {
	Token       string                   // who signs in with it may do everything; empty: nobody has such a token
	ReadToken   string                   // who signs in with it may only read; empty: nobody has such a token
	Issuer      operations.Authenticator // accepts access tokens; nil: nobody may sign in with one
	Open        bool                     // nobody has to sign in
	Instance    string                   // name of this process
	Version     string
	Orders      orders.Service // nil: this process does not serve the API, so there are no pages about orders
	Effects     operations.EffectReader
	Relay       operations.RelayInspector
	Parking     operations.ParkingAdmin
	Parked      operations.UndecidedEventsAdmin
	DeadLetters operations.DeadLetterAdmin
	DeadGroups  operations.DeadLetterFinder
	Subscribers operations.SubscriberAdmin
	Watcher     operations.Watcher
	Adopt       PlanAdoption
	Settings    []Setting
	Checks      func(ctx context.Context) []Check
	Traces      string // address of Jaeger, without a slash at the end; empty: traces have no links
	HidePayload bool   // payloads are never shown
	Grant       string // statement that gives this process the rights of an operator; empty: not known
	Logger      *slog.Logger
}

// PlanAdoption plans the repair of a halted relay. position is the last event that counts as published; nil: the plan decides.
type PlanAdoption func(ctx context.Context, position *outbox.Position, acceptRepeats bool) (Adoption, error)

// Adoption is a plan to repair the relay, in words.
type Adoption struct {
	Text    string // what Do would do
	Version string // changes if the plan changes
	Do      func(ctx context.Context) error
}

// Setting is one setting of the process. Value has no secret.
type Setting struct{ Name, Value, Source string }

// Check is the verdict of one check of readiness.
type Check struct {
	Name     string
	Required bool
	Err      error // nil: the check passed
}

// Console serves the pages below Path.
type Console struct {
	Options
	mux     *http.ServeMux
	pages   map[string]*template.Template
	tokens  operations.Tokens
	cookies cookies
	actions map[string]action

	closeOnce sync.Once
	closed    chan struct{} // ends the connections of viewers
}

// Path is where the console is. Every address of the console begins with Path.
const Path = "/console"

// New returns a console.
func New(options Options) *Console {
	c := &Console{
		Options: options, mux: http.NewServeMux(), pages: parsePages(), cookies: newCookies(options.Token, options.ReadToken),
		tokens:  operations.NewTokens(options.Token, options.ReadToken, options.Issuer),
		actions: make(map[string]action), closed: make(chan struct{}),
	}
	c.serveStatic()
	c.serveSignIn()
	c.serveLive()
	c.serveActions()
	c.serveOverview()
	c.serveOrders()
	c.serveEvents()
	c.serveParked()
	c.serveLetters()
	c.serveHalt()
	c.serveSubscribers()
	c.serveSettings()
	return c
}

// Close ends the connections of viewers, which would hold up the end of the server.
func (c *Console) Close() { c.closeOnce.Do(func() { close(c.closed) }) }

// pagePolicy allows a page to load only what the console serves, and no other page to show it in a frame.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers a request. It refuses a form that a browser sends for a page of another origin, and every form of a session that may only
// read.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Cache-Control", "no-store")
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		c.fail(w, r, errOrigin)
		return
	}
	if !public(r.URL.Path) {
		switch who := c.Operator(r); {
		case !who.Scope.Allows(operations.ScopeRead):
			c.askToSignIn(w, r)
			return
		case changes(r) && !who.Scope.Allows(operations.ScopeWrite):
			c.refuseChange(w, r, who)
			return
		}
	}
	c.mux.ServeHTTP(w, r)
}

// get serves a page at a path below Path.
func (c *Console) get(path string, serve func(w http.ResponseWriter, r *http.Request) error) {
	c.mux.HandleFunc("GET "+Path+path, c.orFail(serve))
}

// post serves a form at a path below Path.
func (c *Console) post(path string, serve func(w http.ResponseWriter, r *http.Request) error) {
	c.mux.HandleFunc("POST "+Path+path, c.orFail(serve))
}

// maxForm bounds the body of a form.
const maxForm = 64 << 10

func (c *Console) orFail(serve func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := serve(w, r); err != nil {
			c.fail(w, r, err)
		}
	}
}
