package main

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

var writeCLI = flag.Bool("write-cli", false, "write docs/cli.md instead of checking it")

const (
	cliFile   = "../../docs/cli.md"
	cliHeader = `# Commands of outboxie

For users and operators: every command and its flags. ` + "`make cli-docs`" + ` generates this page from the program; ` + "`TestCLIDocIsCurrent`" + ` checks
that it is current. [configuration.md](configuration.md) has the environment variables, in brackets below.

`
)

// TestCLIDocIsCurrent checks that docs/cli.md has every command and flag as the program has them.
func TestCLIDocIsCurrent(t *testing.T) {
	written := cliDoc(t)
	require.Greater(t, strings.Count(written, "\n## outboxie"), 20)
	if *writeCLI {
		require.NoError(t, os.WriteFile(cliFile, []byte(written), 0o600))
	}
	text, err := os.ReadFile(cliFile)
	require.NoError(t, err)
	require.Equal(t, written, string(text), "docs/cli.md is out of date: run `make cli-docs`")
}

// cliDoc describes every command that is not hidden, in Markdown.
func cliDoc(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	for _, cmd := range everyCommand() {
		if cmd.Hidden || cmd.Name() == "help" || strings.HasPrefix(cmd.CommandPath(), "outboxie completion ") {
			continue // `outboxie completion` describes its commands
		}
		require.NoError(t, doc.GenMarkdownCustom(cmd, &all, func(page string) string {
			return "#" + strings.ReplaceAll(strings.TrimSuffix(page, ".md"), "_", "-")
		}))
	}
	text := regexp.MustCompile(`\* \[outboxie completion (bash|fish|powershell|zsh)\].*\n`).ReplaceAllString(all.String(), "")
	return cliHeader + strings.TrimRight(strings.NewReplacer("\t - ", " – ", "SEE ALSO", "See also", "\n\n\n", "\n\n").Replace(text), "\n") + "\n"
}

// everyCommand returns all commands of the program, each before its own commands.
func everyCommand() (all []*cobra.Command) {
	root := (&program{}).command()
	root.InitDefaultCompletionCmd()
	root.InitDefaultVersionFlag()
	var add func(cmd *cobra.Command)
	add = func(cmd *cobra.Command) {
		cmd.DisableAutoGenTag = true
		all = append(all, cmd)
		for _, child := range cmd.Commands() {
			add(child)
		}
	}
	add(root)
	return all
}

// TestNoErrorShowsHowAValueIsRead checks that no wrong value of any flag or argument leads to an error of the package that read the value.
func TestNoErrorShowsHowAValueIsRead(t *testing.T) {
	tried := 0
	for _, cmd := range everyCommand() {
		path := strings.Fields(cmd.CommandPath())[1:]
		if cmd.Hidden || len(path) == 0 || path[0] == "completion" {
			continue
		}
		refused := func(args ...string) {
			code, stdout, stderr := command(t, nil, append(path, args...)...)
			require.Equal(t, exitUsage, code, "%s %v: %s", path, args, stdout)
			require.NotRegexp(t, `strconv|parsing|invalid syntax|Parse[A-Z]`, stderr, "%s %v", path, args)
			tried++
		}
		refused("one", "argument", "too many")
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if flag.Name == "help" {
				return
			}
			values := []string{"", "a b", "1e3", "99999999999999999999"}
			if cmd.Name() == "token" && (flag.Name == "service" || flag.Name == "operator") {
				values = values[:2] // the others are names, and the command would succeed
			}
			for _, value := range values {
				refused("--" + flag.Name + "=" + value)
			}
		})
	}
	require.Greater(t, tried, 100)
}
