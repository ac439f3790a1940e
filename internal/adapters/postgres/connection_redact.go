package postgres

import (
	"errors"
	"regexp"
	"strings"
)

// quotedPart is what the driver repeats of a URL's query.
var quotedPart = regexp.MustCompile(`"(?:[^"\\]|\\.)+[= ](?:[^"\\]|\\.)+"`)

// withoutURL returns what the driver says of a URL that it cannot read, without the URL: the driver hides the password, but no other
// parameter.
func withoutURL(err error) error {
	reason := ""
	if cause := errors.Unwrap(err); cause != nil {
		reason = " (" + cause.Error() + ")"
	}
	text := strings.TrimSuffix(err.Error(), reason)
	end := strings.LastIndex(text, "`: ")
	if end < 0 {
		return errors.New("the driver does not understand it")
	}
	return errors.New(text[end+len("`: "):] + quotedPart.ReplaceAllString(reason, "(hidden)"))
}
