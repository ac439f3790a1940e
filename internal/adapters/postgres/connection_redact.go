package postgres

import (
	"errors"
	"regexp"
	"strings"
)

// quotedPart matches the part of a URL's query that the driver repeats in its error.
var quotedPart = regexp.MustCompile(`"(?:[^"\\]|\\.)+[= ](?:[^"\\]|\\.)+"`)

// withoutURL returns the driver's error about an unreadable URL, without the URL. The driver hides the password, but no other parameter.
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
