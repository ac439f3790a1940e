package fault

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a reason and of its pattern, in bytes.
const (
	LongestReason  = 1000 // NewFingerprint does not read the rest of a longer reason
	LongestPattern = 300
)

// Fingerprint identifies the cause of a failure: failures with the same cause have the same fingerprint.
type Fingerprint struct {
	ID      string // twelve hexadecimal digits of a hash of Pattern
	Pattern string // the reason without the parts that differ from event to event; people can read it
}

// NewFingerprint returns the fingerprint of the reason for which an event failed. The pattern is the first line of the reason, with
// placeholders for quoted values, ids, times, addresses and numbers. Error codes stay, because they name the cause: the code after the
// word SQLSTATE, and a number from 100 to 599 after one of the words status, code and answers. If the reason is the Pattern of a
// fingerprint, NewFingerprint returns that fingerprint.
func NewFingerprint(reason string) Fingerprint {
	pattern := firstLine(cut(reason, LongestReason))
	for range mostRounds {
		next := cut(normalised(pattern), LongestPattern)
		if next == pattern {
			break
		}
		pattern = next
	}
	if pattern == "" {
		pattern = "no reason"
	}
	sum := sha256.Sum256([]byte(pattern))
	return Fingerprint{ID: hex.EncodeToString(sum[:6]), Pattern: pattern}
}

// mostRounds bounds how often a pattern is normalised. One round may not be enough: a replacement can create a text that an earlier rule
// matches.
const mostRounds = 10

// cut returns the beginning of text. The beginning has at most the given number of bytes, and only whole characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.TrimSpace(text[:most])
}

// firstLine returns the first line that is not blank. A stack trace begins on a later line, so it is left out.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// The placeholders of a pattern.
const (
	aValue    = "<value>"
	anID      = "<id>"
	aTime     = "<time>"
	anAddress = "<address>"
	aNumber   = "<n>"
)

func normalised(line string) string {
	fields := strings.FieldsFunc(withoutQuoted(strings.ToValidUTF8(line, "\uFFFD")), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	})
	for i, field := range fields {
		if strings.ContainsFunc(field, isDigit) && (i == 0 || !isCode(fields[i-1], field)) {
			fields[i] = withoutNumbers(field)
		}
	}
	return withoutRepeats(strings.Join(fields, " "))
}

// status matches a field that can be a status code: a number from 100 to 599, with or without punctuation after it.
var status = regexp.MustCompile(`^[1-5][0-9]{2}[^0-9A-Za-z]*$`)

// isCode reports whether field is an error code. The word before the field decides.
func isCode(before, field string) bool {
	switch before = strings.ToLower(strings.Trim(before, "(:=")); {
	case strings.HasSuffix(before, "sqlstate"):
		return true
	case before == "answers", before == "status", before == "code":
		return status.MatchString(field)
	}
	return false
}

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

// withoutQuoted replaces quoted values. An apostrophe within a word is not a quote.
func withoutQuoted(line string) string {
	var kept strings.Builder
	previous := ' '
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		if end := quoteEnd(line, i, previous); end > 0 {
			kept.WriteString(aValue)
			i, previous = end, '>'
			continue
		}
		kept.WriteString(line[i : i+size])
		i, previous = i+size, r
	}
	return kept.String()
}

// quoteEnd returns the index after the quoted value that begins at i, or 0 if no quoted value begins at i. previous is the character
// before i. If a double quote is never closed, the end of the reason was cut off, so the value ends with the line.
func quoteEnd(line string, i int, previous rune) int {
	quote := line[i]
	if quote != '"' && quote != '\'' && quote != '`' || quote == '\'' && inWord(previous, '>') {
		return 0
	}
	for end := i + 1; end < len(line); end++ {
		switch next, _ := utf8.DecodeRuneInString(line[end+1:]); {
		case line[end] == '\\' && quote == '"':
			end++
		case line[end] == quote && (quote != '\'' || end+1 == len(line) || !inWord(next, '<')):
			return end + 1
		}
	}
	if quote == '"' {
		return len(line)
	}
	return 0
}

// inWord reports whether r belongs to a word. mark is the character at the edge of a placeholder. inWord also accepts mark, because the
// placeholder may have replaced a word.
func inWord(r, mark rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == mark }

// rules replace parts of a field that contains digits. They apply in this order.
var rules = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`), anID},
	{regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.,]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?|[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?`), aTime},
	{regexp.MustCompile(`\[[0-9a-fA-F:.%]*:[0-9a-fA-F:.%]*\](?::[0-9]+)?|(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]+)?|` +
		`(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z][A-Za-z0-9-]*):[0-9]+`), anAddress},
	{regexp.MustCompile(`\b0x[0-9a-fA-F]+\b|\b[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h)(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))*\b`), aNumber},
	{regexp.MustCompile(`\b[0-9A-Za-z]{8,}\b`), anID}, // only if isID accepts the word
	{regexp.MustCompile(`(?:\B[+-])?[0-9]+(?:[.,][0-9]+)*(?:[eE][+-]?[0-9]+)?`), aNumber},
}

// withoutNumbers applies the rules to a field.
func withoutNumbers(field string) string {
	for _, rule := range rules {
		field = rule.pattern.ReplaceAllStringFunc(field, func(found string) string {
			if rule.with == anID && !isID(found) {
				return found
			}
			return rule.with
		})
	}
	return field
}

// isID reports whether a word is an id, and not a name that contains a number. An id has at least one decimal digit and one other
// character. In addition, either all of its characters are hexadecimal digits or hyphens, or it has at least 16 characters of which at
// least four are decimal digits.
func isID(word string) bool {
	digits, others := 0, 0
	for _, r := range word {
		switch {
		case isDigit(r):
			digits++
		case !strings.ContainsRune("abcdefABCDEF-", r):
			others++
		}
	}
	return digits > 0 && digits < len(word) && (others == 0 || len(word) >= 16 && digits >= 4)
}

// withoutRepeats replaces each list of equal placeholders by one placeholder.
func withoutRepeats(line string) string {
	for _, mark := range []string{aValue, anID, aTime, anAddress, aNumber} {
		for _, between := range []string{", ", ",", " "} {
			for repeated := mark + between + mark; strings.Contains(line, repeated); {
				line = strings.ReplaceAll(line, repeated, mark)
			}
		}
	}
	return line
}
