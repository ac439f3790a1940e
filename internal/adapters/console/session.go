package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// SessionCookie is the name of the cookie with the session.
const SessionCookie = "outboxie-console"

const (
	flashCookie = "outboxie-console-said"
	// sessionTime is how long somebody stays signed in.
	sessionTime = 12 * time.Hour
	// scopes are what a session allows. The token allows everything.
	scopes = "read write"
	// wrongTokenDelay slows down guesses of the token.
	wrongTokenDelay = 300 * time.Millisecond
)

var (
	errOrigin = fault.New(fault.Refused, "other_origin", "a page of another origin sent this form; open the console itself and try again")
	errForm   = fault.New(fault.Invalid, "invalid_form", "the form cannot be read")
	errPage   = fault.New(fault.NotFound, "no_such_page", "the console has no such page")
)

// cookies makes and checks the cookies of sessions. A cookie holds the end of the session and its scopes, and a code that only a process with
// the same token can make. So every instance with the token accepts the cookie, also after a restart, and a new token ends all sessions.
type cookies struct {
	key   []byte
	token [sha256.Size]byte
	none  bool // there is no token, so nobody may sign in
}

func newCookies(token string) cookies {
	key := sha256.Sum256([]byte("outboxie console session\n" + token))
	return cookies{key: key[:], token: sha256.Sum256([]byte(token)), none: token == ""}
}

// accepts reports whether a text is the token.
func (k cookies) accepts(text string) bool {
	sent := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(sent[:], k.token[:]) == 1 && !k.none
}

// NewSession returns the value of the cookie SessionCookie for a session that ends at a time. The console
// makes a session when somebody signs in. Tests make sessions that have ended.
func NewSession(token string, until time.Time) string {
	content := strconv.FormatInt(until.Unix(), 10) + "." + base64.RawURLEncoding.EncodeToString([]byte(scopes))
	return content + "." + newCookies(token).code(content)
}

func (k cookies) code(content string) string {
	mac := hmac.New(sha256.New, k.key)
	mac.Write([]byte(content))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// valid reports whether a cookie was issued with this token and has not expired.
func (k cookies) valid(value string, now time.Time) bool {
	at := strings.LastIndexByte(value, '.')
	if at < 0 || k.none || !hmac.Equal([]byte(value[at+1:]), []byte(k.code(value[:at]))) {
		return false
	}
	end, _, _ := strings.Cut(value, ".")
	until, err := strconv.ParseInt(end, 10, 64)
	return err == nil && now.Unix() < until
}

func (c *Console) signedIn(r *http.Request) bool {
	if c.Open {
		return true
	}
	cookie, err := r.Cookie(SessionCookie)
	return err == nil && c.cookies.valid(cookie.Value, time.Now())
}

// public reports whether a path needs no session.
func public(at string) bool {
	return at == Path+"/sign-in" || strings.HasPrefix(at, Path+"/static/")
}

func setCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: Path, MaxAge: int(age.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
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
	Next    string
	Wrong   bool
	NoToken bool
}

func (c *Console) serveSignIn() {
	c.get("/sign-in", func(w http.ResponseWriter, r *http.Request) error {
		return c.show(w, r, "sign-in", http.StatusOK, signIn{Next: ownPath(r.FormValue("next")), NoToken: c.cookies.none})
	})
	c.post("/sign-in", func(w http.ResponseWriter, r *http.Request) error {
		next := ownPath(r.PostFormValue("next"))
		if !c.cookies.accepts(strings.TrimSpace(r.PostFormValue("token"))) {
			c.Logger.WarnContext(r.Context(), "refused to sign in to the console: the token is wrong", "client", r.RemoteAddr)
			time.Sleep(wrongTokenDelay)
			return c.show(w, r, "sign-in", http.StatusUnauthorized, signIn{Next: next, Wrong: true, NoToken: c.cookies.none})
		}
		setCookie(w, SessionCookie, NewSession(c.Token, time.Now().Add(sessionTime)), sessionTime)
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	})
	c.post("/sign-out", func(w http.ResponseWriter, r *http.Request) error {
		setCookie(w, SessionCookie, "", -time.Second)
		http.Redirect(w, r, Path+"/sign-in", http.StatusSeeOther)
		return nil
	})
}

// ownPath returns a path of the console, and never the address of another server.
func ownPath(address string) string {
	if parsed, err := url.Parse(address); err != nil || parsed.Host != "" || parsed.Scheme != "" || parsed.Path != Path && !strings.HasPrefix(parsed.Path, Path+"/") {
		return Path
	}
	return address
}

// said sets the message that the next page shows.
func said(w http.ResponseWriter, message string) {
	setCookie(w, flashCookie, base64.RawURLEncoding.EncodeToString([]byte(message)), time.Minute)
}

// heard returns the message of the page before, and removes it.
func heard(w http.ResponseWriter, r *http.Request) string {
	cookie, err := r.Cookie(flashCookie)
	if err != nil {
		return ""
	}
	setCookie(w, flashCookie, "", -time.Second)
	message, _ := base64.RawURLEncoding.DecodeString(cookie.Value)
	return string(message)
}
