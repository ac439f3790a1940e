// Package printable makes foreign texts safe to show on a terminal. Ids, types, reasons and statements may come from anybody who can write
// the outbox or the stream. Commands print such texts with Text, Line, Command and SQL, and print everything through NewWriter.
package printable

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns a name, such as an id or a type, unchanged. If the name holds a space, a quote or an invisible character, Text returns the
// name in quotes with escapes, as the log does. So two different names look different, and no name adds a line or a column to a table.
func Text(name string) string {
	odd := func(r rune) bool { return r == '"' || unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, odd) {
		return strconv.Quote(name)
	}
	return name
}

// Line returns prose, such as a reason or a statement, on one line. White space becomes a single space. Invisible characters are escaped.
func Line(prose string) string {
	return string(escaped([]byte(strings.Join(strings.Fields(prose), " "))))
}

// Command returns a command that can be pasted into any POSIX shell and passes exactly these arguments.
func Command(args ...string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = shell(arg)
	}
	return strings.Join(quoted, " ")
}

const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-"

// shell quotes one argument. Invisible characters are escaped for printf. Line breaks at the end are quoted unchanged, because the shell
// removes them from the output of printf.
func shell(arg string) string {
	if arg != "" && strings.Trim(arg, plain) == "" {
		return arg
	}
	body := strings.TrimRight(arg, "\n")
	if ends := arg[len(body):]; ends != "" && body != "" {
		return shell(body) + "'" + ends + "'"
	}
	if body == "" || utf8.ValidString(body) && !strings.ContainsFunc(body, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	var format strings.Builder
	for i, r := range []byte(body) {
		switch {
		case r == '-' && i == 0: // printf must not read an option
			format.WriteString(`\055`)
		case r == '%':
			format.WriteString("%%")
		case r < ' ' || r > '~' || r == '\\' || r == '\'':
			fmt.Fprintf(&format, `\%03o`, r)
		default:
			format.WriteByte(r)
		}
	}
	return `"$(printf '` + format.String() + `')"`
}

// SQL returns text as a string constant of Postgres.
func SQL(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		text = strings.ReplaceAll(text, `\`, `\\`)
		return "E'" + strings.ReplaceAll(string(escape([]byte(text), false)), "'", "''") + "'"
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// NewWriter returns a writer that passes on visible characters, line breaks and tabs. It escapes everything else, such as sequences that
// control a terminal, and marks that reverse a text. JSON keeps its values, because in JSON such characters can only be in strings. Each
// Write must end with a whole character.
func NewWriter(w io.Writer) io.Writer { return writer{w} }

type writer struct{ w io.Writer }

func (w writer) Write(text []byte) (int, error) {
	if _, err := w.w.Write(escaped(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}

func escaped(text []byte) []byte { return escape(text, true) }

// escape escapes invisible characters as JSON and Postgres do. Only a byte that is not UTF-8 has another form.
func escape(text []byte, keepLayout bool) []byte {
	shown := func(r rune, size int) bool {
		return (r != utf8.RuneError || size > 1) && unicode.IsPrint(r) || keepLayout && (r == '\n' || r == '\t')
	}
	var out []byte
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case shown(r, size):
			out = append(out, rest[:size]...)
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, rest[0])
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	return out
}
