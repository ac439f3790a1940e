package order

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrText : the text cannot be kept along with an order.
var ErrNote = fault.New(fault.Invalid, "invalid_text", "not a short text")

// Text is what somebody says about a change: the reference of a payment, a carrier, a reason. The empty Text is nothing.
type Note string

// longestText is in characters.
const maxNoteLength = 200

// ParseText accepts 1 to 200 characters, none of them a control character. field is what to blame.
func ParseNote(text, field string) (Note, error) {
	if text == "" || utf8.RuneCountInString(text) > maxNoteLength || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		const reason = "must be 1 to 200 characters, without line breaks and other control characters"
		return "", ErrNote.With("%s %s", field, reason).On(field, reason)
	}
	return Note(text), nil
}
