package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

const (
	sessionCookie = "outboxie-console"
	flashCookie   = "outboxie-console-said"
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

func (k cookies) issue(until time.Time) string {
	content := strconv.FormatInt(until.Unix(), 10) + "." + base64.RawURLEncoding.EncodeToString([]byte(scopes))
	return content + "." + k.code(content)
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
	cookie, err := r.Cookie(sessionCookie)
	return err == nil && c.cookies.valid(cookie.Value, time.Now())
}

// public reports whether a path needs no session.
func public(path string) bool {
	return path == Path+"/sign-in" || strings.HasPrefix(path, Path+"/static/")
}

func setCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: Path, MaxAge: int(age.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// askToSignIn leads to the sign-in page, and back to the present page afterwards.
func (c *Console) askToSignIn(w http.ResponseWriter, r *http.Request) {
	to := Path + "/sign-in"
	if r.Method == http.MethodGet && r.URL.Path != Path+"/live" && r.Header.Get("HX-Request") == "" {
		to += "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
	}
	switch {
	case r.Header.Get("HX-Request") != "":
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == Path+"/live":
		w.WriteHeader(http.StatusUnauthorized)
	default:
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
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
		setCookie(w, sessionCookie, c.cookies.issue(time.Now().Add(sessionTime)), sessionTime)
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	})
	c.post("/sign-out", func(w http.ResponseWriter, r *http.Request) error {
		setCookie(w, sessionCookie, "", -time.Second)
		http.Redirect(w, r, Path+"/sign-in", http.StatusSeeOther)
		return nil
	})
}

// ownPath returns a path of the console, and never the address of another server.
func ownPath(path string) string {
	if parsed, err := url.Parse(path); err != nil || parsed.Host != "" || parsed.Scheme != "" || parsed.Path != Path && !strings.HasPrefix(parsed.Path, Path+"/") {
		return Path
	}
	return path
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
