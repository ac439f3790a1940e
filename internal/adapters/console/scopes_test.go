package console_test

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const readToken = "may-only-read-and-nothing-else"

// twoTokens lets the console ask for a token, with one token for each scope.
func twoTokens(o *console.Options) { o.Token, o.ReadToken = token, readToken }

// as signs in with a token.
func (b *browser) as(token string) {
	b.t.Helper()
	status, body := b.post("/sign-in", "token", token, "next", "/console/settings")
	require.Equal(b.t, http.StatusOK, status, body)
	require.Contains(b.t, body, "<h1>Settings</h1>")
}

// changing finds the forms that change something.
var changing = regexp.MustCompile(`<form method="post" action="([^"]*)"`)

// changesOn returns the addresses to which the forms of a page that change something lead.
func changesOn(body string) (addresses []string) {
	for _, found := range changing.FindAllStringSubmatch(body, -1) {
		if found[1] != console.Path+"/sign-out" {
			addresses = append(addresses, found[1])
		}
	}
	return addresses
}

// visited is a page, with the browser of a console that has something to show there.
type visited struct {
	*browser
	path     string
	template string
	changes  bool // it has forms that change something, for those who may
}

// everyPage returns the pages of the console.
func everyPage(t *testing.T) []visited {
	t.Helper()
	shop, lot, box, subscribers := openShop(t, twoTokens), openParkingLot(t, twoTokens), openLetterBox(t, twoTokens), openSubscribers(t, twoTokens)
	halted := open(t, console.Options{Watcher: stillWatcher{haltedReading(time.Now())}}, twoTokens)
	log := newEventLog(t, eventOf(eventOrder, 1))
	events := open(t, console.Options{Relay: log.inspector}, twoTokens)
	placed := shop.place(t, customer, 700)
	return []visited{
		{halted, "", "overview", false},
		{halted, "/halt", "halt", true},
		{halted, "/settings", "settings", false},
		{shop.browser, "/orders", "orders", true},
		{shop.browser, "/orders/" + string(placed.ID), "order", true},
		{events, "/events", "events", false},
		{events, "/events/1", "event", false},
		{events, "/events/1?payload=1", "event", false},
		{lot.browser, "/parked", "parked", true},
		{box.browser, "/letters", "letters", false},
		{box.browser, emailsURL, "letters-of", true},
		{box.browser, emailsURL + "/" + first, "letter", true},
		{box.browser, emailsURL + "/" + first + "?payload=1", "letter", false},
		{subscribers.browser, "/subscribers", "subscribers", false},
		{subscribers.browser, "/subscribers/emails", "subscriber", true},
	}
}

// TestEveryPageForAReader checks that each page of the console is shown to a session that may only read, without any form that changes something
// and with the reason in words. The same pages have their forms for a session that may change something.
func TestEveryPageForAReader(t *testing.T) {
	var templates []string
	for _, page := range everyPage(t) {
		templates = append(templates, page.template)
		page.as(token)
		status, full := page.get(page.path)
		require.Equal(t, http.StatusOK, status, full)
		require.NotContains(t, full, "to read only")
		if page.changes {
			require.NotEmpty(t, changesOn(full), page.path)
		}
		page.as(readToken)
		status, body := page.get(page.path)
		require.Equal(t, http.StatusOK, status, body)
		require.Empty(t, changesOn(body), page.path)
		require.NotContains(t, body, "formaction=", page.path)
		require.Contains(t, body, "You are signed in to read only", page.path)
		for _, heading := range regexp.MustCompile(`<h1>.*?</h1>`).FindAllString(full, -1) {
			require.Contains(t, body, heading)
		}
	}
	for _, template := range console.Templates() {
		if !slices.Contains([]string{"confirm", "failed", "sign-in"}, template) {
			require.Contains(t, templates, template, "a page of each template is visited")
		}
	}
}

// TestPayloadsForReaders checks that a payload is shown to a session that may only read, if it asks for the payload.
func TestPayloadsForReaders(t *testing.T) {
	log := newEventLog(t, relaytest.NewMessage("7", 1))
	b := open(t, console.Options{Relay: log.inspector}, twoTokens)
	b.as(readToken)
	_, body := b.get("/events/1")
	require.Contains(t, body, "Show the payload")
	_, body = b.get("/events/1?payload=1")
	require.Contains(t, body, "Hide the payload")
	require.Contains(t, body, "<pre")
}

// TestEveryChangeByAReader checks that a session that may only read changes nothing, whatever it sends: the answer says which token is needed,
// and leads back.
func TestEveryChangeByAReader(t *testing.T) {
	said := new(strings.Builder)
	options := console.Options{Token: token, ReadToken: readToken, Watcher: stillWatcher{}, Logger: slog.New(slog.NewTextHandler(said, nil))}
	pages := console.New(options) // its ports are nil: a form that is carried out panics
	reader := session(t, pages, readToken)
	paths := []string{"/actions/nothing", "/orders", "/nothing", "", "/parked", "/live"}
	for _, verb := range []string{"pay", "ship", "cancel"} {
		paths = append(paths, "/orders/"+first+"/"+verb)
	}
	actions := pages.Actions()
	require.GreaterOrEqual(t, len(actions), 13)
	for _, name := range actions {
		paths = append(paths, "/actions/"+name)
	}
	for _, path := range paths {
		for _, step := range []string{"", "ask", "do"} {
			answer := sendForm(pages, http.MethodPost, path, reader, url.Values{"subscriber": {"emails"}, "step": {step}, "shown": {"1"}, "version": {"1"}})
			require.Equal(t, http.StatusForbidden, answer.Code, path)
			body := answer.Body.String()
			require.Contains(t, body, "nothing was done, because you are signed in to read only; to change something, sign out, and sign in with the token in ADMIN_TOKEN")
			require.Contains(t, body, `<a href="/console`, path)
		}
		for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "BREW"} {
			require.Equal(t, http.StatusForbidden, sendForm(pages, method, path, reader, nil).Code, "%s %s", method, path)
		}
	}
	back := sendForm(pages, http.MethodPost, "/actions/subscriber-pause", reader, url.Values{"subscriber": {"emails"}}).Body.String()
	require.Contains(t, back, `href="/console/subscribers/emails">To the page before</a>`)
	require.Contains(t, said.String(), `msg="refused a change in the console: the session may only read" actor="holder of the read token"`)
	require.Equal(t, http.StatusSeeOther, sendForm(pages, http.MethodPost, "/sign-out", reader, nil).Code, "it may end itself")
}

// session signs in, and returns the session's cookie.
func session(t *testing.T, pages http.Handler, with string) (cookie string) {
	t.Helper()
	answer := signIn(pages, with, "/console")
	require.Equal(t, http.StatusSeeOther, answer.Code, answer.Body.String())
	made := answer.Result().Cookies()[0]
	return made.Name + "=" + made.Value
}

// sendForm sends a form with a cookie.
func sendForm(pages http.Handler, method, path, cookie string, form url.Values) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, console.Path+path, strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Cookie", cookie)
	answer := httptest.NewRecorder()
	pages.ServeHTTP(answer, request)
	return answer
}

// TestAReaderCannotForge checks that nobody makes a session that may write out of a session that may read, also with the read token, and that a
// change of either token ends all sessions.
func TestAReaderCannotForge(t *testing.T) {
	create := func(token, readToken string) *console.Console {
		return console.New(console.Options{Token: token, ReadToken: readToken, Watcher: stillWatcher{}, Logger: slog.New(slog.DiscardHandler)})
	}
	pages := create(token, readToken)
	reader, writer := session(t, pages, readToken), session(t, pages, token)
	scopes := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	require.Contains(t, reader, "."+scopes("read")+".")
	require.Contains(t, writer, "."+scopes("read write")+".")
	code := reader[strings.LastIndex(reader, "."):]
	later := time.Now().Add(time.Hour)
	for name, forged := range map[string]string{
		"other scopes":                      strings.Replace(reader, "."+scopes("read")+".", "."+scopes("read write")+".", 1),
		"the content of another":            writer[:strings.LastIndex(writer, ".")] + code,
		"signed with the read token":        console.SessionCookie + "=" + console.SessionOf(readToken, readToken, later),
		"signed with nothing":               console.SessionCookie + "=" + console.NewSession("", later),
		"a name":                            reader[:len(reader)-len(code)] + scopes("ada") + code,
		"no scopes":                         console.SessionCookie + "=9999999999.." + code,
		"signed without the read token too": console.SessionCookie + "=" + console.NewSession(token, later),
	} {
		require.Equal(t, http.StatusSeeOther, ask(pages, "/settings", forged).Code, name)
		require.Equal(t, "/console/sign-in?next=%2Fconsole%2Forders", sendForm(pages, http.MethodPost, "/orders", forged, nil).Header().Get("Location"), name)
	}
	for _, cookie := range []string{reader, writer} {
		require.Equal(t, http.StatusOK, ask(create(token, readToken), "/settings", cookie).Code, "another instance")
		require.Equal(t, http.StatusSeeOther, ask(create(token, readToken+"2"), "/settings", cookie).Code, "a new read token")
		require.Equal(t, http.StatusSeeOther, ask(create(token+"2", readToken), "/settings", cookie).Code, "a new token")
	}
	alone := create("", readToken) // a process that could not store its token
	reader = session(t, alone, readToken)
	require.Equal(t, http.StatusOK, ask(alone, "/settings", reader).Code)
	require.Equal(t, http.StatusForbidden, sendForm(alone, http.MethodPost, "/orders", reader, nil).Code)
	for _, made := range []string{console.SessionOf("", readToken, later), console.SessionOf(readToken, readToken, later), console.NewSession("", later)} {
		require.Equal(t, http.StatusSeeOther, ask(alone, "/settings", console.SessionCookie+"="+made).Code)
	}
	require.Equal(t, http.StatusUnauthorized, signIn(alone, "", "/console").Code)
}

// issued accepts the access tokens of a test.
type issued map[string]operations.Operator

// Authenticate returns the operator of a token.
func (i issued) Authenticate(_ context.Context, token string) (operations.Operator, error) {
	who, known := i[token]
	switch {
	case token == "before the keys are known":
		return who, operations.ErrNoKeys
	case !known:
		return who, operations.ErrToken.With("the token has expired")
	}
	return who, nil
}

// TestSignInWithAnAccessToken checks that the session of an access token has its name and its scope, ends no later than the token, and is logged
// without the token. A token that is not accepted, or not for operators, opens nothing, and the page says why.
func TestSignInWithAnAccessToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := new(strings.Builder)
		until := time.Now().Add(time.Hour)
		issuer := issued{
			"reads":  {Name: "ada é", Scope: operations.ScopeRead, Until: until},
			"writes": {Name: "bob<b>", Scope: operations.ScopeWrite, Until: until.Add(24 * time.Hour)},
			"orders": {Name: "shop", Until: until},
			"late":   {Name: "eve", Scope: operations.ScopeWrite, Until: time.Now()},
		}
		options := console.Options{Token: token, Issuer: issuer, Watcher: stillWatcher{}, Logger: slog.New(slog.NewTextHandler(said, nil))}
		pages := console.New(options)
		reader, writer := session(t, pages, " reads "), session(t, pages, "writes")
		for _, line := range []string{
			`msg=audit action="POST /console/sign-in" actor_type=user actor="ada é" scope=read until=2000-01-01T01:00:00.000Z`,
			`msg=audit action="POST /console/sign-in" actor_type=user actor=bob<b> scope=write until=2000-01-01T12:00:00.000Z`,
		} {
			require.Contains(t, said.String(), line)
		}
		require.NotContains(t, said.String(), "reads")
		require.Contains(t, ask(pages, "/settings", reader).Body.String(), "signed in as ada é")
		require.Contains(t, ask(pages, "/settings", writer).Body.String(), "signed in as bob&lt;b&gt;")
		require.Equal(t, http.StatusForbidden, sendForm(pages, http.MethodPost, "/orders", reader, nil).Code)
		require.Equal(t, http.StatusNotFound, sendForm(pages, http.MethodPost, "/orders", writer, nil).Code, "this process has no orders")

		for with, says := range map[string]string{
			"gone":   "That is not the admin token of this process, and no access token that it accepts: the token has expired.",
			"orders": "it needs the scope outboxie:read or outboxie:write", "late": "That access token has expired.",
		} {
			answer := signIn(pages, with, "/console")
			require.Equal(t, http.StatusUnauthorized, answer.Code)
			require.Contains(t, answer.Body.String(), says)
			require.Empty(t, answer.Result().Cookies())
		}
		require.Equal(t, http.StatusServiceUnavailable, signIn(pages, "before the keys are known", "/console").Code)

		options.Issuer = nil
		require.Equal(t, http.StatusSeeOther, ask(console.New(options), "/settings", writer).Code, "without an issuer nobody has a name")
		time.Sleep(time.Hour - time.Second)
		require.Equal(t, http.StatusOK, ask(pages, "/settings", reader).Code)
		time.Sleep(time.Second)
		require.Equal(t, http.StatusSeeOther, ask(pages, "/settings", reader).Code, "the token has expired")
		require.Equal(t, http.StatusOK, ask(pages, "/settings", writer).Code)
		time.Sleep(11 * time.Hour)
		require.Equal(t, http.StatusSeeOther, ask(pages, "/settings", writer).Code, "after twelve hours")
	})
}

// placers keeps who places orders.
type placers struct {
	orders.Service
	all *[]order.Principal
}

// Place places the order.
func (p placers) Place(
	ctx context.Context, who order.Principal, customer value.CustomerID, amount value.Money, key orders.Key,
) (order.Snapshot, error) {
	*p.all = append(*p.all, who)
	return p.Service.Place(ctx, who, customer, amount, key)
}

// TestOrdersNameTheOperator checks that an order is placed by the person who has signed in, and that nobody is named who shares a token.
func TestOrdersNameTheOperator(t *testing.T) {
	for with, want := range map[string]order.Principal{"access token": order.Operator("ada"), token: order.SharedToken("console")} {
		var placedBy []order.Principal
		s := openShop(t, func(o *console.Options) {
			o.Token = token
			o.Issuer = issued{"access token": {Name: "ada", Scope: operations.ScopeWrite, Until: time.Now().Add(time.Hour)}}
			o.Orders = placers{o.Orders, &placedBy}
		})
		s.as(with)
		status, body := s.post("/orders", "key", uuid.NewString(), "customer_id", customer, "amount", "1", "currency", "USD")
		require.Equal(t, http.StatusOK, status, body)
		require.Equal(t, []order.Principal{want}, placedBy)
	}
}
