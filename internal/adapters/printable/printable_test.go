package printable_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
)

func requireVisible(t require.TestingT, text string) {
	require.True(t, utf8.ValidString(text), "%q", text)
	require.False(t, strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", text)
}

func TestText(t *testing.T) {
	for name, want := range map[string]string{
		"order/7": "order/7", "Bestellung/ä漢": "Bestellung/ä漢", `order/$(touch x)'\`: `"order/$(touch x)'\\"`,
		"": `""`, "a b": `"a b"`, "a\nb": `"a\nb"`, "a\x1b[31m\a": `"a\x1b[31m\a"`, "\u009b31m": `"\u009b31m"`, "\u202eab\u2066": `"\u202eab\u2066"`,
		"a\xff": `"a\xff"`, `"a"`: `"\"a\""`, "a\u200bb": `"a\u200bb"`,
	} {
		require.Equal(t, want, printable.Text(name))
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		requireVisible(t, printable.Text(a))
		require.Equal(t, a == b, printable.Text(a) == printable.Text(b))
	})
}

func TestLine(t *testing.T) {
	require.Equal(t, `too large for \u001b[31m NATS`, printable.Line(" too\n\tlarge  for \x1b[31m NATS\r\n"))
	require.Equal(t, `\x9b \u202e \udb40\udc01`, printable.Line("\x9b \u202e \U000e0001"))
	rapid.Check(t, func(t *rapid.T) { requireVisible(t, printable.Line(rapid.String().Draw(t, "prose"))) })
}

// TestCommand checks that a shell passes on the arguments of a printed command unchanged, and runs nothing in them.
func TestCommand(t *testing.T) {
	require.Equal(t, "outboxie outbox redrive --aggregate order/7", printable.Command("outboxie", "outbox", "redrive", "--aggregate", "order/7"))
	arguments := []string{
		"", "order/$(touch x)", "`touch x`", "a'b", `a"b`, `a\b`, "a;touch x", "a&b|c>x", "~", "*", "#a", "!x", "-n", "-\x1b", "--\t", "a b", "%s %d", "é漢",
		"\x1b[31m\a", "100% \x1b '\\", "\u009b", "\u202e\u2066", "a\nb", "a\n\n", "\n", "\x1b\n", "'\n", "\xff", "a\rb", "\t",
	}
	random := rapid.SliceOfN(rapid.StringN(0, 8, -1), 300, 300).Example(1)
	for _, argument := range random {
		arguments = append(arguments, strings.ReplaceAll(argument, "\x00", "")) // nothing can pass it on
	}
	script := "print() { printf '%s\\0' \"$@\"; }\n" + printable.Command(append([]string{"print"}, arguments...)...)
	for _, name := range []string{"sh", "bash", "dash", "zsh", "ksh", "busybox"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		args := []string{"-c", script}
		if name == "busybox" {
			args = append([]string{"sh"}, args...)
		}
		shell := exec.CommandContext(t.Context(), path, args...)
		shell.Dir = t.TempDir()
		said, err := shell.Output()
		require.NoError(t, err)
		require.Equal(t, arguments, strings.Split(strings.TrimSuffix(string(said), "\x00"), "\x00"), name)
		entries, err := os.ReadDir(shell.Dir)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
	for _, argument := range arguments {
		requireVisible(t, strings.ReplaceAll(printable.Command(argument), "\n", ""))
		if !strings.HasSuffix(argument, "\n") {
			require.NotContains(t, printable.Command(argument), "\n")
		}
	}
}

func TestSQL(t *testing.T) {
	require.Equal(t, `'a''b\'`, printable.SQL(`a'b\`))
	require.Equal(t, `E'a''\\\u001b\u000a\u202e'`, printable.SQL("a'\\\x1b\n\u202e"))
}

// TestWriterKeepsJSON checks that JSON which went through a writer still holds the same values.
func TestWriterKeepsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "value")
		var out bytes.Buffer
		encoder := json.NewEncoder(printable.NewWriter(&out))
		encoder.SetIndent("", "  ")
		require.NoError(t, encoder.Encode(value))
		requireVisible(t, strings.ReplaceAll(out.String(), "\n", ""))
		var read map[string]string
		require.NoError(t, json.Unmarshal(out.Bytes(), &read))
		require.Equal(t, value, read)
	})
	var out bytes.Buffer
	count, err := printable.NewWriter(&out).Write([]byte("a\tb\n\x1b[31m\x7f\x9b✓ ━\r\n"))
	require.NoError(t, err)
	require.Equal(t, 20, count)
	require.Equal(t, "a\tb\n\\u001b[31m\\u007f\\x9b✓ ━\\u000d\n", out.String())
}
