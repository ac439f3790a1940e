package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/cmd/internal/cli"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

// The exit codes are the same as those of outboxie.
const (
	exitClean  = 0
	exitFailed = 1
	exitUsage  = 2
)

var errUsage = fault.New(fault.Invalid, "usage", "the command line cannot be used")

// playground has the environment and the outputs of the process, for all commands.
type playground struct {
	environment []string
	program     string    // the file of outboxie
	stdout      io.Writer // escapes everything except visible characters, line breaks and tabs
	terminal    io.Writer // writes everything unchanged: for colors
	configured  bool      // the settings are accepted: later errors are not usage errors
}

// run runs one command, and returns the exit code.
func run(args, environment []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &playground{environment: environment, stdout: printable.NewWriter(stdout), terminal: stdout}
	stderr = printable.NewWriter(stderr)
	root := p.command()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitClean
	}
	said := err.Error()
	if fault.KindOf(err) != fault.Internal { // the error may quote foreign text, so it gets one line
		said = printable.Line(said)
	}
	_, _ = fmt.Fprintf(stderr, "playground: %s\n", said)
	var ended *processes.EndedError
	if errors.As(err, &ended) && ended.Code == exitUsage {
		return exitUsage // the process has said what is wrong
	}
	var problems *config.Error
	if !p.configured || errors.As(err, &problems) || fault.KindOf(err) == fault.Invalid {
		return exitUsage
	}
	return exitFailed
}

func (p *playground) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "playground",
		Short:         "See the order service at work, on servers that are started for it",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&p.program, "program", "", "the program outboxie; without the flag it is beside this one")
	root.AddCommand(p.runCommand(), p.demoCommand(), p.infraCommand())
	cli.Prepare(root)
	return root
}

// configure reads the command's configuration. The settings are those of outboxie.
func (p *playground) configure(cmd *cobra.Command) (config.Config, error) {
	c, err := config.NewBuilder().Environment(p.environment).Flags(cmd.Flags()).Build()
	p.configured = err == nil
	return c, err
}

// find looks for the program outboxie, and returns its version.
func (p *playground) find(ctx context.Context) (version string, err error) {
	if p.program == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		p.program = filepath.Join(filepath.Dir(self), "outboxie")
	}
	said, err := exec.CommandContext(ctx, p.program, "version").Output()
	version, found := strings.CutPrefix(strings.TrimSpace(string(said)), "outboxie ")
	if err == nil && !found {
		err = fmt.Errorf("`version` prints %q", printable.Line(strings.TrimSpace(processes.LastLines(string(said), 1))))
	}
	if err != nil {
		return "", errUsage.With("%s is not the program outboxie (%v); name it with --program, or run `make build`", p.program, err)
	}
	return version, nil
}

// logger returns a logger that writes to standard output.
func (p *playground) logger(c config.Config) *slog.Logger {
	logger := telemetry.NewLogger(p.stdout, c.Log.Level, string(c.Log.Format))
	for _, warning := range c.Warnings() {
		logger.Warn(warning)
	}
	return logger
}

// stopped returns nil if ctx has ended: the error then comes from the stop. Otherwise it returns err.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
