package console

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const (
	// sessionTime is how long somebody stays signed in. The session of an access token ends no later than the token.
	sessionTime = 12 * time.Hour
	// wrongTokenDelay slows down guesses of the token.
	wrongTokenDelay = 300 * time.Millisecond
)

var (
	errOrigin = fault.New(fault.Refused, "other_origin", "a page of another origin sent this form; open the console itself and try again")
	errForm   = fault.New(fault.Invalid, "invalid_form", "the form cannot be read")
	errPage   = fault.New(fault.NotFound, "no_such_page", "the console has no such page")

	// errReads reports that a session may only read, and that it was asked for a change.
	errReads = operations.ErrScope.With("nothing was done, because you are signed in to read only; to change something, sign out, and sign in with "+
		"the token in ADMIN_TOKEN, or with an access token that has the scope %s", operations.ScopeWrite.Claim())
)

// Operator returns who sends a request: the operator of its session. Without a session it returns the zero Operator.
func (c *Console) Operator(r *http.Request) operations.Operator {
	if c.Open {
		return operations.Operator{Scope: operations.ScopeWrite}
	}
	cookie, err := r.Cookie(SessionCookie)
	if err != nil {
		return operations.Operator{}
	}
	who, valid := c.cookies.operator(cookie.Value, time.Now())
	if !valid || who.Name != "" && c.Issuer == nil { // names are the issuer's, and nobody can sign in with its tokens any more
		return operations.Operator{}
	}
	return who
}

func (c *Console) signedIn(r *http.Request) bool {
	return c.Operator(r).Scope.Allows(operations.ScopeRead)
}

// changes reports whether a request may change something else than its own session.
func changes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.URL.Path != Path+"/sign-out"
}

// refuseChange answers a change that the session does not allow. Its page leads back to the page on which the person was.
func (c *Console) refuseChange(w http.ResponseWriter, r *http.Request, who operations.Operator) {
	_, name := who.Actor()
	c.Logger.WarnContext(r.Context(), "refused a change in the console: the session may only read", "actor", name, "remote", r.RemoteAddr,
		"path", r.URL.Path)
	c.fail(w, r, &failedAt{errReads, cmp.Or(c.pageBehind(w, r), Path)})
}

// public reports whether a path needs no session.
func public(at string) bool {
	return at == Path+"/sign-in" || strings.HasPrefix(at, Path+"/static/")
}

// askToSignIn leads to the sign-in page, and afterwards back to the page on which the person was. A form of that page is not carried out.
func (c *Console) askToSignIn(w http.ResponseWriter, r *http.Request) {
	to := Path + "/sign-in"
	if page := c.pageBehind(w, r); page != "" {
		to += "?" + url.Values{"next": {page}}.Encode()
	}
	switch {
	case r.Header.Get("HX-Request") != "":
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == Path+"/live":
		w.WriteHeader(http.StatusUnauthorized)
	default:
		if r.Method == http.MethodPost {
			said(w, "Nothing was done, because your session has ended. Sign in, and send the form again.")
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// pageBehind returns the address of the page on which a person was who sent a request, or "".
func (c *Console) pageBehind(w http.ResponseWriter, r *http.Request) string {
	at := strings.TrimPrefix(r.URL.Path, Path)
	name, isAction := strings.CutPrefix(at, "/actions/")
	switch {
	case r.Header.Get("HX-Request") != "":
		page, err := url.Parse(r.Header.Get("HX-Current-URL"))
		if err != nil || page.Path == "" {
			return ""
		}
		return page.RequestURI()
	case r.Method == http.MethodGet:
		return r.URL.RequestURI()
	case isAction:
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if a, known := c.actions[name]; known && r.ParseForm() == nil {
			return a.back(r.PostForm)
		}
	case at == "/orders":
		return r.URL.Path
	case strings.HasPrefix(at, "/orders/"):
		return path.Dir(r.URL.Path)
	}
	return ""
}

type signIn struct {
	Next      string
	Wrong     string // why the token is not accepted; empty: none was sent
	NoToken   bool   // nobody can sign in
	ReadToken bool   // there is a token that may only read
	Issuer    bool   // access tokens are accepted
}

func (c *Console) serveSignIn() {
	page := signIn{NoToken: c.tokens.AcceptsNothing(), ReadToken: c.ReadToken != "", Issuer: c.Issuer != nil}
	c.get("/sign-in", func(w http.ResponseWriter, r *http.Request) error {
		page := page
		page.Next = ownPath(r.FormValue("next"))
		return c.show(w, r, "sign-in", http.StatusOK, page)
	})
	c.post("/sign-in", func(w http.ResponseWriter, r *http.Request) error {
		page := page
		page.Next = ownPath(r.PostFormValue("next"))
		who, err := c.tokens.Authenticate(r.Context(), strings.TrimSpace(r.PostFormValue("token")))
		now := time.Now()
		if page.Wrong, err = c.wrongToken(who, now, err); err != nil {
			return err
		}
		if page.Wrong != "" {
			c.Logger.WarnContext(r.Context(), "refused to sign in to the console: the token is wrong", "client", r.RemoteAddr)
			time.Sleep(wrongTokenDelay)
			return c.show(w, r, "sign-in", http.StatusUnauthorized, page)
		}
		if end := now.Add(sessionTime); who.Until.IsZero() || who.Until.After(end) {
			who.Until = end
		}
		setCookie(w, SessionCookie, c.cookies.session(who), who.Until.Sub(now))
		c.auditSignIn(r, who)
		http.Redirect(w, r, page.Next, http.StatusSeeOther)
		return nil
	})
	c.post("/sign-out", func(w http.ResponseWriter, r *http.Request) error {
		setCookie(w, SessionCookie, "", -time.Second)
		http.Redirect(w, r, Path+"/sign-in", http.StatusSeeOther)
		return nil
	})
}

// wrongToken says why nobody can sign in with a token. It returns "" if the operator can, and an error if the token cannot be checked.
func (c *Console) wrongToken(who operations.Operator, now time.Time, err error) (string, error) {
	const wrong = "That is not the admin token of this process"
	switch {
	case errors.Is(err, operations.ErrToken) && c.Issuer == nil:
		return wrong + ".", nil
	case errors.Is(err, operations.ErrToken):
		var f *fault.Error
		errors.As(err, &f)
		return wrong + ", and no access token that it accepts: " + f.Detail + ".", nil
	case err != nil:
		return "", err
	case !who.Scope.Allows(operations.ScopeRead):
		return "That access token is not for operators: it needs the scope " + operations.ScopeRead.Claim() + " or " + operations.ScopeWrite.Claim() + ".", nil
	case !who.Until.IsZero() && !now.Before(who.Until): // the issuer's clock may be a little behind
		return "That access token has expired.", nil
	}
	return "", nil
}

// auditSignIn logs who has signed in, as the admin listener logs changes. The body of the request is the token, so the line does not have it.
func (c *Console) auditSignIn(r *http.Request, who operations.Operator) {
	kind, name := who.Actor()
	c.Logger.InfoContext(r.Context(), "audit", "action", r.Method+" "+r.URL.Path, "actor_type", kind, "actor", name, "scope", string(who.Scope),
		"until", who.Until.UTC(), "remote", r.RemoteAddr)
}

// ownPath returns a path of the console, and never the address of another server.
func ownPath(address string) string {
	if parsed, err := url.Parse(address); err != nil || parsed.Host != "" || parsed.Scheme != "" || parsed.Path != Path && !strings.HasPrefix(parsed.Path, Path+"/") {
		return Path
	}
	return address
}
