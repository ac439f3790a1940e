package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// checkText refuses a well-formed JSON text with bytes that are not UTF-8, or with half of a surrogate pair. Package json replaces both with
// U+FFFD, so different requests would look the same.
func checkText(text []byte) error {
	for at := 0; at < len(text); {
		switch r, size := utf8.DecodeRune(text[at:]); {
		case r == utf8.RuneError && size == 1:
			return errBody.With("the body is not UTF-8: its byte %d is 0x%02x", at, text[at])
		case r != '\\':
			at += size
		case text[at+1] != 'u':
			at += len(`\n`)
		default:
			size := lengthOfEscape(text[at:])
			if size == 0 {
				return errBody.With("half of a surrogate pair stands in a string of the body: %s at byte %d", text[at:at+escaped], at)
			}
			at += size
		}
	}
	return nil
}

const escaped = len(`\u0000`)

// lengthOfEscape returns the length of the escaped character at the beginning of text. It returns 0 for half of a surrogate pair.
func lengthOfEscape(text []byte) int {
	first := escapedUnit(text)
	if !utf16.IsSurrogate(first) {
		return escaped
	}
	if rest := text[escaped:]; len(rest) > escaped && rest[0] == '\\' && rest[1] == 'u' &&
		utf16.DecodeRune(first, escapedUnit(rest)) != utf8.RuneError {
		return 2 * escaped
	}
	return 0
}

// escapedUnit returns the UTF-16 unit of an escape such as \u0041 at the beginning of text.
func escapedUnit(text []byte) rune {
	unit, _ := strconv.ParseUint(string(text[len(`\u`):escaped]), 16, 16) // the text is well-formed
	return rune(unit)
}

// withValidUTF8 replaces bytes that are not UTF-8 in a request's path, host and headers. Spans contain these texts, and the exporter drops
// a whole batch of spans if one text is not UTF-8. A valid request has no such bytes: no route accepts them in its path, and the server
// reads only ASCII headers.
func withValidUTF8(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path, r.Host = validUTF8(r.URL.Path), validUTF8(r.Host)
		for _, values := range r.Header {
			for i, value := range values {
				values[i] = validUTF8(value)
			}
		}
		next.ServeHTTP(w, r)
	})
}

func validUTF8(text string) string { return strings.ToValidUTF8(text, string(utf8.RuneError)) }
