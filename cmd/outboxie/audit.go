package main

import (
	"log/slog"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assylzhan-a/outboxie/internal/adapters/audit"
)

// auditedCommands are the commands with which operators change something.
var auditedCommands = []string{
	"outboxie outbox redrive", "outboxie outbox discard", "outboxie outbox adopt",
	"outboxie subscriber retry", "outboxie subscriber discard", "outboxie subscriber pause", "outboxie subscriber resume",
	"outboxie subscriber ignore", "outboxie subscriber rewind", "outboxie subscriber skip", "outboxie subscriber lanes", "outboxie subscriber forget",
	eraseCommandPath,
}

// auditCommand logs, on standard error, who ran a command that changed something, and with which flags. A command that only showed what it
// would do has failed, and is not logged.
func auditCommand(cmd *cobra.Command) {
	if !slices.Contains(auditedCommands, cmd.CommandPath()) {
		return
	}
	if yes := cmd.Flags().Lookup("yes"); cmd.CommandPath() == eraseCommandPath && yes != nil && yes.Value.String() != "true" {
		return // it found nothing to erase
	}
	var given []string
	cmd.Flags().Visit(func(flag *pflag.Flag) { given = append(given, "--"+flag.Name+"="+flag.Value.String()) })
	arguments := cmd.Flags().Args()
	if cmd.CommandPath() == eraseCommandPath {
		arguments = []string{auditedCustomer(arguments)}
	}
	logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	logger.Info(audit.Message, "action", cmd.CommandPath(), "arguments", strings.Join(append(arguments, given...), " "), "actor_type", "user",
		"actor", systemUser())
}

// systemUser returns the name of the user who runs the program, as the operating system knows it.
func systemUser() string {
	who, err := user.Current()
	if err != nil {
		return "unknown"
	}
	return who.Username
}
