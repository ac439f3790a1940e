// Package cli has what the commands of all programs share: how a wrong command line is reported. Call Prepare on the root command, after all
// commands were added.
package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Prepare makes a root command report wrong words, wrong topics of help and wrong values of flags with what is right.
func Prepare(root *cobra.Command) {
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	prepare(root)
}

// prepare makes a command that has commands refuse a word that is none of them.
func prepare(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	if !cmd.HasSubCommands() {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0])
	}
	for _, child := range cmd.Commands() {
		prepare(child)
	}
}

func unknownCommand(cmd *cobra.Command, word string) error {
	err := fmt.Errorf("unknown command %q for %q", word, cmd.CommandPath())
	if similar := cmd.SuggestionsFor(word); len(similar) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(similar, " or "))
	}
	return err
}

// helpCommand is cobra's command help, except that an unknown topic is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		RunE: func(help *cobra.Command, args []string) error {
			named := help.Root()
			for _, word := range args {
				next := child(named, word)
				if next == nil {
					return unknownCommand(named, word)
				}
				named = next
			}
			named.InitDefaultHelpFlag()
			return named.Help()
		},
	}
}

func child(parent *cobra.Command, word string) *cobra.Command {
	for _, cmd := range parent.Commands() {
		if cmd.Name() == word || cmd.HasAlias(word) {
			return cmd
		}
	}
	return nil
}

// expected has what a flag must be, by the type of the flag.
var expected = map[string]string{"int": "a whole number", "int64": "a whole number", "bool": "true or false"}

// flagError says what a flag must be instead of how a library failed to read it.
func flagError(_ *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) {
		return err
	}
	flag := wrong.GetFlag()
	if kind, known := expected[flag.Value.Type()]; known {
		return fmt.Errorf("--%s is %q; it must be %s", flag.Name, wrong.GetValue(), kind)
	}
	return err
}
