package value

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrNote reports that a text is too long for a note, or has characters that a note cannot have.
var ErrNote = fault.New(fault.Invalid, "invalid_text", "not a short text")

// Note is a short text about a change: the reference of a payment, a carrier, a reason. The empty Note means that there is none.
type Note string

// maxNoteLength is the largest number of characters in a note.
const maxNoteLength = 200

// ParseNote accepts 1 to 200 characters, none of them a control character. Otherwise it fails with an ErrNote that names field.
func ParseNote(text, field string) (Note, error) {
	if text == "" || utf8.RuneCountInString(text) > maxNoteLength || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		const reason = "must be 1 to 200 characters, without line breaks and other control characters"
		return "", ErrNote.With("%s %s", field, reason).On(field, reason)
	}
	return Note(text), nil
}
