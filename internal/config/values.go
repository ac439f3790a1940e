package config

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var (
	plainName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

	inboxPrefix = regexp.MustCompile(`^[A-Za-z0-9_-]{1,50}(\.[A-Za-z0-9_-]{1,50}){0,4}$`)
	token       = regexp.MustCompile(`^[!-~]{16,200}$`)
)

func within[T int | time.Duration](value, low, high T) bool { return low <= value && value <= high }

func address(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// clash reports whether both listeners have the same address. Port 0 never clashes, because it picks a free port.
func (h HTTP) clash() bool { return h.Addr == h.AdminAddr && !strings.HasSuffix(h.Addr, ":0") }

func identifier(text string) bool {
	invisible := func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }
	return text != "" && len(text) <= 200 && !strings.ContainsFunc(text, invisible)
}

var subjectPattern = regexp.MustCompile(`^([A-Za-z0-9_-]+\.){1,10}>$`)

// eventSubjects reports whether text can be the pattern of the subjects of events. The subjects of the relay's own messages begin with outboxie.
func eventSubjects(text string) bool {
	return len(text) <= 200 && subjectPattern.MatchString(text) && !strings.HasPrefix(text, "outboxie.") && !strings.HasPrefix(text, "_INBOX.")
}

// eventSource reports whether text can be a CloudEvents source: a URI reference that is not empty.
func eventSource(text string) bool {
	_, err := url.Parse(text)
	return err == nil && identifier(text) && !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}

// jetStreamName reports whether text can be the name of a stream. NATS uses the name as a token of subjects, and as the name of a folder.
func jetStreamName(text string) bool { return identifier(text) && !strings.ContainsAny(text, `.*>/\`) }
