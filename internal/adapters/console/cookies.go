package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// SessionCookie is the name of the cookie with the session.
const SessionCookie = "outboxie-console"

const flashCookie = "outboxie-console-said"

// The scopes of a session, as its cookie has them.
const (
	readScopes = "read"
	allScopes  = "read write"
)

// cookies makes and checks the cookies of sessions. A cookie holds the end of the session, its scopes and the name of the operator, and a code
// that only a process with the same tokens can make. So every instance with the tokens accepts the cookie, also after a restart, and a new token
// ends all sessions. Holders of the read token cannot make the code, because its key comes from the other token.
type cookies struct{ key []byte }

// newCookies returns the cookies of a process with the two tokens. If it has no token that allows everything, its key is random: its sessions
// end with the process.
func newCookies(token, readToken string) cookies {
	secret := token
	if secret == "" {
		secret = rand.Text() + rand.Text()
	}
	key := sha256.Sum256([]byte("outboxie console session with scopes\n" + secret + "\n" + readToken))
	return cookies{key: key[:]}
}

// NewSession returns the value of the cookie SessionCookie for a session that allows everything and ends at a time, in a process without a read
// token. The console makes a session when somebody signs in. Tests make sessions that have ended.
func NewSession(token string, until time.Time) string {
	return newCookies(token, "").session(operations.Operator{Scope: operations.ScopeWrite, Until: until})
}

// session returns the value of the cookie for the session of an operator. The session ends at the operator's Until.
func (k cookies) session(who operations.Operator) string {
	scopes := readScopes
	if who.Scope == operations.ScopeWrite {
		scopes = allScopes
	}
	content := strconv.FormatInt(who.Until.Unix(), 10) + "." + encoded(scopes) + "." + encoded(who.Name)
	return content + "." + k.code(content)
}

func encoded(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func (k cookies) code(content string) string {
	mac := hmac.New(sha256.New, k.key)
	mac.Write([]byte(content))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// operator returns whose session a cookie is for. It reports false if the cookie was not made with these tokens, or if the session has ended.
func (k cookies) operator(value string, now time.Time) (who operations.Operator, valid bool) {
	at := strings.LastIndexByte(value, '.')
	if at < 0 || !hmac.Equal([]byte(value[at+1:]), []byte(k.code(value[:at]))) {
		return operations.Operator{}, false
	}
	parts := strings.Split(value[:at], ".")
	if len(parts) != 3 {
		return operations.Operator{}, false
	}
	until, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || now.Unix() >= until {
		return operations.Operator{}, false
	}
	name, err := base64.RawURLEncoding.DecodeString(parts[2])
	who = operations.Operator{Name: string(name), Scope: operations.ScopeRead, Until: time.Unix(until, 0)}
	switch parts[1] {
	case encoded(readScopes):
	case encoded(allScopes):
		who.Scope = operations.ScopeWrite
	default:
		return operations.Operator{}, false
	}
	return who, err == nil
}

func setCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: Path, MaxAge: int(age.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// said sets the message that the next page shows.
func said(w http.ResponseWriter, message string) {
	setCookie(w, flashCookie, encoded(message), time.Minute)
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
