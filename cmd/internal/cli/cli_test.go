package cli_test

import (
	"io"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/cmd/internal/cli"
)

// TestWrongCommandLines checks that a wrong command line is an error that says what is right.
func TestWrongCommandLines(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"sevre"}, `unknown command "sevre" for "shop"; did you mean serve?`},
		{[]string{"zzzzzz"}, `unknown command "zzzzzz" for "shop"`},
		{[]string{"outbox", "lits"}, `unknown command "lits" for "shop outbox"; did you mean list?`},
		{[]string{"help", "sevre"}, `unknown command "sevre" for "shop"; did you mean serve?`},
		{[]string{"help", "outbox", "lits"}, `unknown command "lits" for "shop outbox"; did you mean list?`},
		{[]string{"outbox", "list", "--limit", "many"}, `--limit is "many"; it must be a whole number`},
		{[]string{"outbox", "list", "--limit=99999999999999999999"}, `--limit is "99999999999999999999"; it must be a whole number`},
		{[]string{"outbox", "list", "--position=1.5"}, `--position is "1.5"; it must be a whole number`},
		{[]string{"outbox", "list", "--json=maybe"}, `--json is "maybe"; it must be true or false`},
		{[]string{"outbox", "list", "--wide"}, `unknown flag: --wide`},
	} {
		require.EqualError(t, execute(test.args...), test.want)
	}
	for _, fine := range [][]string{{}, {"serve"}, {"outbox"}, {"help"}, {"help", "outbox", "list"}, {"outbox", "list", "--limit=1"}} {
		require.NoError(t, execute(fine...), fine)
	}
}

func execute(args ...string) error {
	nothing := func(*cobra.Command, []string) error { return nil }
	root := &cobra.Command{Use: "shop", RunE: nothing, SilenceErrors: true, SilenceUsage: true}
	outbox := &cobra.Command{Use: "outbox", RunE: nothing}
	list := &cobra.Command{Use: "list", RunE: nothing, Args: cobra.NoArgs}
	list.Flags().Int("limit", 1, "")
	list.Flags().Int64("position", 1, "")
	list.Flags().Bool("json", false, "")
	outbox.AddCommand(list)
	root.AddCommand(outbox, &cobra.Command{Use: "serve", RunE: nothing, Args: cobra.NoArgs})
	cli.Prepare(root)
	root.SetArgs(args)
	root.SetOut(io.Discard)
	return root.Execute()
}
