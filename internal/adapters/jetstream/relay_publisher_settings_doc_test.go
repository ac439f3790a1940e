package jetstream_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
)

var writeTables = flag.Bool("write", false, "write the tables of settings into docs/operations.md")

// TestTablesOfSettings checks that the tables in docs/operations.md show the program's rules. With -write it writes the tables.
func TestTablesOfSettings(t *testing.T) {
	const file = "../../../docs/operations.md"
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	text := string(content)
	for name, decisions := range map[string][]jetstream.Decision{"stream": jetstream.StreamDecisions()} {
		begin, end := "<!-- settings of the "+name+": begin -->\n", "<!-- settings of the "+name+": end -->\n"
		before, rest, found := strings.Cut(text, begin)
		require.True(t, found, "%s has no %q", file, begin)
		old, after, found := strings.Cut(rest, end)
		require.True(t, found, "%s has no %q", file, end)
		table := tableOf(decisions)
		if !*writeTables {
			require.Equal(t, table, old, "regenerate it: go test ./internal/adapters/jetstream -run TestTablesOfSettings -write")
		}
		text = before + begin + table + end + after
	}
	if *writeTables {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644)) //nolint:gosec // as it was
	}
}

func tableOf(decisions []jetstream.Decision) string {
	var table strings.Builder
	table.WriteString("| setting | value | it is | because, or what follows | repair |\n|---|---|---|---|---|\n")
	for _, d := range decisions {
		repair := ""
		if d.Repair != "" {
			repair = "`" + d.Repair + "`"
		}
		table.WriteString("| `" + strings.Join([]string{d.Name + "`", d.Value, d.Verdict, d.Meaning, repair}, " | ") + " |\n")
	}
	return table.String()
}
