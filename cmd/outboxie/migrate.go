package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
)

// onSchema is the work of a command on the schema.
type onSchema func(ctx context.Context, db *bun.DB, logger *slog.Logger) error

func (p *program) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Look at the database's schema, or change it",
		Long: "Look at the database's schema, or change it. Needs DATABASE_URL. serve and subscribe migrate up by themselves.\n" +
			"There are two sets of tables: the engine's, and those of the order service.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s needs up, down or status", cmd.CommandPath())
		},
	}
	up := &cobra.Command{
		Use: "up", Short: "Apply the missing migrations of both sets; several processes may do so at once", Args: cobra.NoArgs,
		Long: "Apply the missing migrations of both sets. Any number of processes may do so at once, and the former version may serve\n" +
			"meanwhile. The log names what a migration waits for. Needs DATABASE_URL.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.onSchema(cmd, func(ctx context.Context, db *bun.DB, logger *slog.Logger) error {
				return postgres.MigrateUp(ctx, db, logger)
			})
		},
	}
	status := &cobra.Command{
		Use: "status", Short: "List the migrations of each set", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.onSchema(cmd, p.migrateStatus) },
	}
	cmd.AddCommand(up, p.migrateDownCommand(), status)
	return cmd
}

func (p *program) migrateDownCommand() *cobra.Command {
	set, yes := "", false
	cmd := &cobra.Command{
		Use:   "down --set engine|service --yes",
		Short: "Revert the newest migration of a set, with the data in its tables",
		Long: "Revert the newest migration of a set. Its tables and columns are dropped with their data, and the program does not run\n" +
			"without them. Without --yes it shows what would be lost. Needs DATABASE_URL, --set, and --yes.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if set != string(postgres.EngineTables) && set != string(postgres.ServiceTables) {
				return errUsage.With("name the set whose newest migration is reverted: --set %s or --set %s", postgres.EngineTables, postgres.ServiceTables)
			}
			return p.onSchema(cmd, func(ctx context.Context, db *bun.DB, logger *slog.Logger) error {
				return p.migrateDown(ctx, db, logger, postgres.Set(set), yes)
			})
		},
	}
	cmd.Flags().StringVar(&set, "set", "", "the set whose newest migration is reverted: `engine or service`")
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	return cmd
}

func (p *program) onSchema(cmd *cobra.Command, work onSchema) error {
	c, err := p.configure(cmd, config.DatabaseURL)
	if err != nil {
		return err
	}
	return engine.WithDatabase(c, func(db *bun.DB) error { return work(cmd.Context(), db, p.logger(c)) })
}

func (p *program) migrateDown(ctx context.Context, db *bun.DB, logger *slog.Logger, set postgres.Set, yes bool) error {
	loss, found, err := postgres.NewestMigration(ctx, db, logger, set)
	if err != nil {
		return err
	}
	if !found {
		_, err := fmt.Fprintf(p.stdout, "No migration of the %s's tables is applied.\n", set)
		return err
	}
	if !yes {
		return errUsage.With("this would revert %s of the %s's tables. Lost: %s To do it, repeat the command with --yes", loss.Name, set, lossWords(loss))
	}
	if err := postgres.MigrateDown(ctx, db, logger, set, loss.Version); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Reverted %s of the %s's tables. Lost: %s\n", loss.Name, set, lossWords(loss))
	return err
}

// lossWords describes a loss. The text ends with a full stop.
func lossWords(loss postgres.Loss) string {
	words := loss.What
	var dropped []string
	for _, table := range loss.Tables {
		dropped = append(dropped, fmt.Sprintf("%s (%d rows)", table.Name, table.Rows))
	}
	if len(dropped) > 0 {
		words += " Dropped: " + strings.Join(dropped, ", ") + "."
	}
	return words
}

func (p *program) migrateStatus(ctx context.Context, db *bun.DB, logger *slog.Logger) error {
	migrations, err := postgres.MigrateStatus(ctx, db, logger)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, m := range migrations {
		state := "pending"
		if m.Applied {
			state = "applied " + m.AppliedAt.UTC().Format(time.RFC3339)
		}
		if _, err := fmt.Fprintf(table, "%s\t%d\t%s\t%s\n", m.Set, m.Version, m.Name, state); err != nil {
			return err
		}
	}
	return table.Flush()
}
