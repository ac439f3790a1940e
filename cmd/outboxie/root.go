package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/dig"

	"github.com/assylzhan-a/outboxie/cmd/internal/cli"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// The exit codes that scripts rely on.
const (
	exitClean  = 0
	exitFailed = 1
	exitUsage  = 2
)

// program has the environment and the outputs of the process, for all commands.
type program struct {
	environment []string
	stdout      io.Writer // escapes everything except visible characters, line breaks and tabs
	terminal    io.Writer // writes everything unchanged: for colors
	configured  bool      // the settings are accepted: later errors are not usage errors
}

// run runs one command, and returns the exit code.
func run(args, environment []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return runContext(ctx, args, environment, stdout, stderr)
}

// runContext runs one command until the command is done or ctx ends. The end of ctx is a clean stop.
func runContext(ctx context.Context, args, environment []string, stdout, stderr io.Writer) int {
	p := &program{environment: environment, stdout: printable.NewWriter(stdout), terminal: stdout}
	stderr = printable.NewWriter(stderr)
	root := p.command()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitClean
	}
	err = dig.RootCause(err)
	said := err.Error()
	if fault.KindOf(err) != fault.Internal { // the error may quote foreign text, so it gets one line
		said = printable.Line(said)
	}
	_, _ = fmt.Fprintf(stderr, "outboxie: %s\n", said)
	if errors.Is(err, syscall.EADDRINUSE) {
		_, _ = fmt.Fprintln(stderr, "Stop what listens there, or choose another address with HTTP_ADDR (--http-addr) and ADMIN_ADDR "+
			"(--admin-addr); port 0 picks a free one.")
	}
	var problems *config.Error
	if !p.configured && fault.KindOf(err) == fault.Internal && !errors.As(err, &problems) {
		_, _ = fmt.Fprintf(stderr, "For help: %s --help\n", commandOf(root, args))
	}
	if !p.configured || errors.As(err, &problems) || fault.KindOf(err) == fault.Invalid {
		return exitUsage
	}
	return exitFailed
}

// commandOf returns the path of the command that the arguments name, such as "outboxie outbox list".
func commandOf(root *cobra.Command, args []string) string {
	if named, _, err := root.Find(args); err == nil && named.Name() != "help" {
		return named.CommandPath()
	}
	return root.CommandPath()
}

func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "outboxie",
		Version:       release(),
		Short:         "An order service whose events reach NATS JetStream through a transactional outbox",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		PersistentPostRun: func(cmd *cobra.Command, _ []string) { auditCommand(cmd) },
	}
	root.SetVersionTemplate("outboxie {{.Version}}\n")
	root.AddCommand(
		p.serveCommand(), p.relayCommand(), p.subscribeCommand(), p.subscriberCommand(),
		p.outboxCommand(), p.eraseCommand(), p.traceCommand(), p.tokenCommand(), p.migrateCommand(), p.healthcheckCommand(), p.configCommand(), p.versionCommand(),
	)
	root.PersistentFlags().String(envFile, "", "a `file` of settings, in lines NAME=value, which win over the environment")
	for former, present := range movedCommands {
		root.AddCommand(movedCommand(former, present))
	}
	cli.Prepare(root)
	return root
}

// movedCommands are the former commands of this program, and the commands that replace them.
var movedCommands = map[string]string{"dev": "playground run", "demo": "playground demo", "infra": "playground infra"}

func movedCommand(former, present string) *cobra.Command {
	return &cobra.Command{
		Use: former, Hidden: true, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return errUsage.With("%s is now: %s, with the same flags (bin/%s, which `make build` makes)", former, present, present)
		},
	}
}

// configure reads the command's configuration.
func (p *program) configure(cmd *cobra.Command, required ...config.Name) (config.Config, error) {
	from, err := p.variables(cmd)
	if err != nil {
		return config.Config{}, err
	}
	c, err := config.NewBuilder().Environment(from.Variables).Flags(cmd.Flags()).Require(required...).Build()
	if err != nil && from.Path != "" {
		err = from.Locate(err)
	}
	if err != nil {
		return c, err
	}
	p.configured = true
	if c.Given(config.DatabaseURL) {
		for _, name := range postgres.IgnoredVariables() {
			cmd.PrintErrf("outboxie: %s is ignored: DATABASE_URL alone says which database to use, and how\n", name)
		}
	}
	return c, nil
}

// envFile is the flag that names a file of settings.
const envFile = "env-file"

// variables returns the environment of the process, and after it the settings of the file that --env-file names.
func (p *program) variables(cmd *cobra.Command) (config.File, error) {
	path, err := cmd.Flags().GetString(envFile)
	if err != nil || path == "" {
		return config.File{Variables: p.environment}, err
	}
	file, err := config.ReadFile(path)
	file.Variables = slices.Concat(p.environment, file.Variables)
	return file, err
}

// logger returns a logger that writes to standard output.
func (p *program) logger(c config.Config) *slog.Logger {
	logger := telemetry.NewLogger(p.stdout, c.Log.Level, string(c.Log.Format))
	for _, warning := range c.Warnings() {
		logger.Warn(warning)
	}
	return logger
}

// serviceLogger returns the logger of a service. It also exports the log as the OTEL_* environment says. flush exports the lines
// that are not exported yet.
func (p *program) serviceLogger(ctx context.Context, c config.Config, service string) (logger *slog.Logger, flush func(), err error) {
	written := p.logger(c)
	logger, shutdown, err := telemetry.ExportLogs(ctx, telemetryOptions(c, service, written))
	return logger, func() {
		if err := shutdown(context.WithoutCancel(ctx)); err != nil {
			written.Warn("the last log lines were not exported", "error", err)
		}
	}, err
}

// stopped returns nil if ctx has ended: the error then comes from the stop. Otherwise it returns err.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
