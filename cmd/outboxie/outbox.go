package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (p *program) outboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outbox",
		Short: "Show the state of the relay, and repair it",
		Long: "Show the state of the relay, list events and parked events, and repair what a person has to decide.\n" +
			"Needs DATABASE_URL, and STREAM_NAME if it is not the default; the relay may be running.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s needs status, list, parked, redrive, discard or adopt", cmd.CommandPath())
		},
	}
	cmd.AddCommand(p.outboxStatusCommand(), p.outboxListCommand(), p.outboxParkedCommand(), p.outboxRedriveCommand(),
		p.outboxDiscardCommand(), p.outboxAdoptCommand())
	return cmd
}

// outboxPorts has the ports that the commands of `outboxie outbox` use.
type outboxPorts struct {
	operations.RelayInspector
	operations.ParkingAdmin
	subscribers operations.SubscriberAdmin // reads only the database, not the stream
}

// withOutbox runs work on the relay and the parking lot of the configured stream.
func (p *program) withOutbox(cmd *cobra.Command, work func(ctx context.Context, ports outboxPorts) error) error {
	c, err := p.configure(cmd, config.DatabaseURL)
	if err != nil {
		return err
	}
	return engine.WithDatabase(c, func(db *bun.DB) error {
		return work(cmd.Context(), outboxPorts{
			postgres.NewRelayAdmin(db, c.Stream.Name, c.Stream.Name), postgres.NewParking(db, c.Stream.Name),
			operating.NewSubscribers(operating.SubscriberPorts{Operator: postgres.NewOperator(db)}),
		})
	})
}

// checkLimit bounds the memory that a list needs.
func checkLimit(limit int) error {
	if limit < 1 || limit > maxListed {
		return errUsage.With("--limit %d must be from 1 to %d", limit, maxListed)
	}
	return nil
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
