package main

import (
	"context"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/config"
)

func (p *program) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Look at the database's schema, or change it",
		Long:  "Look at the database's schema, or change it. Needs DATABASE_URL. serve, subscribe and dev migrate up by themselves.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s needs up, down or status", cmd.CommandPath())
		},
	}
	add := func(use, short string, work func(ctx context.Context, db *bun.DB, logger *slog.Logger) error) {
		cmd.AddCommand(&cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd, config.DatabaseURL)
			if err != nil {
				return err
			}
			return withDatabase(c, func(db *bun.DB) error { return work(cmd.Context(), db, p.logger(c)) })
		}})
	}
	add("up", "Apply what is missing; safe when several processes do it at once", postgres.MigrateUp)
	add("down", "Take the newest migration back, with the data it holds", postgres.MigrateDown)
	add("status", "List the migrations", p.migrateStatus)
	return cmd
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
		if _, err := fmt.Fprintf(table, "%d\t%s\t%s\n", m.Version, m.Name, state); err != nil {
			return err
		}
	}
	return table.Flush()
}
