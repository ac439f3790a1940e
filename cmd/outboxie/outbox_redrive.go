package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operating"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

func (p *program) outboxRedriveCommand() *cobra.Command {
	aggregate, all := "", false
	cmd := &cobra.Command{
		Use:   "redrive (--aggregate TYPE/ID | --all)",
		Short: "Publish parked events after all",
		Long: "Mark the parked events of an aggregate, or all of them, to be published after all, in order. The leader does so within a\n" +
			"second; what the broker still cannot take is parked again. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (aggregate != "") == all {
				return errUsage.With("say what to redrive: either --aggregate TYPE/ID (or an order's ID) or --all")
			}
			var key *outbox.Key
			if !all {
				parsed, err := operating.ParseAggregate(aggregate)
				if err != nil {
					return err
				}
				key = &parsed
			}
			return p.atOutbox(cmd, func(ctx context.Context, desk outboxDesk) error {
				count, err := desk.Redrive(ctx, key)
				if err != nil {
					return lotHint(err)
				}
				if count == 0 {
					_, err = fmt.Fprintln(p.stdout, "Nothing is parked.")
					return err
				}
				_, err = fmt.Fprintf(p.stdout, "To be redriven: %s. The leader does it within a second: outboxie outbox parked\n",
					counted(int64(count), "event"))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&aggregate, "aggregate", "", "`TYPE/ID` of an aggregate, or an order's ID")
	cmd.Flags().BoolVar(&all, "all", false, "everything that is parked")
	return cmd
}

// lotHint says where parked events are found.
func lotHint(err error) error {
	if errors.Is(err, ports.ErrNotParked) {
		return fmt.Errorf("%w; `outboxie outbox parked` lists what waits", err)
	}
	return err
}
