package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const toHelp = "`PLACE`: sequence:N of the stream, position:N of the log, time:2026-11-29T10:00:00Z, start or end"

func (p *program) subscriberRewindCommand() *cobra.Command {
	to := ""
	cmd := p.verb(&cobra.Command{
		Use:   "rewind --id NAME --to PLACE",
		Short: "Let a subscriber read again from an earlier place",
		Long: "Let a subscriber read again all events after an earlier place: after a sequence of the stream, after a position of the log,\n" +
			"from a time on (when the stream stored an event), or from the start. The inbox drops applied events, so that they do not\n" +
			"take effect again. Events that were skipped, or ignored because of their type, take effect now, after later events of their\n" +
			"aggregates. To apply everything once more, start a subscriber under a new id. Needs DATABASE_URL and NATS_URL.",
	}, func(ctx context.Context, admin operations.SubscriberAdmin, id string, asJSON bool) error {
		plan, err := planOf(ctx, admin, id, to, false)
		if err != nil {
			return err
		}
		if !asJSON {
			if _, err := fmt.Fprintf(p.stdout, "Subscriber %s goes back to sequence %d, with %s, from %s: %s are read again.\n"+
				"The inbox drops what was applied. To apply it once more, start a subscriber under a new id: outboxie subscribe --id NEW\n",
				id, plan.To.Sequence, wording.Counted(plan.Lanes, "lane"), standsAt(plan), wording.Counted(plan.Events, "event")); err != nil {
				return err
			}
		}
		done, err := admin.Move(ctx, plan)
		if err != nil {
			return err
		}
		return p.changed(asJSON, httpapi.ShowMove(done, true), "Done. It was at %s.", standsAt(done))
	})
	cmd.Flags().StringVar(&to, "to", "", toHelp)
	return cmd
}

func (p *program) subscriberSkipCommand() *cobra.Command {
	to, yes := "", false
	cmd := p.verb(&cobra.Command{
		Use:   "skip --id NAME --to PLACE --yes",
		Short: "Let a subscriber skip events, up to a later place",
		Long: "Let a subscriber skip the events that it has not handled, up to and including a later place: a sequence of the stream, a\n" +
			"position of the log, everything stored before a time, or the end. A skipped event takes no effect, and leaves no dead\n" +
			"letter. Shows how many events would be skipped; --yes does it. Needs DATABASE_URL and NATS_URL.",
	}, func(ctx context.Context, admin operations.SubscriberAdmin, id string, asJSON bool) error {
		plan, err := planOf(ctx, admin, id, to, true)
		if err != nil {
			return err
		}
		if !yes {
			if err := p.planned(asJSON, httpapi.ShowMove(plan, false)); err != nil {
				return err
			}
			return errUsage.With("this would let subscriber %s skip at most %s, up to sequence %d, with %s, from %s; none of them takes effect; "+
				"repeat the command with --yes", id, wording.Counted(plan.Events, "event"), plan.To.Sequence, wording.Counted(plan.Lanes, "lane"), standsAt(plan))
		}
		done, err := admin.Move(ctx, plan)
		if err != nil {
			return err
		}
		return p.changed(asJSON, httpapi.ShowMove(done, true), "Subscriber %s goes on after sequence %d. It was at %s, and skips at most %s.",
			id, done.To.Sequence, standsAt(done), wording.Counted(done.Events, "event"))
	})
	cmd.Flags().StringVar(&to, "to", "", toHelp)
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	return cmd
}

// planOf returns the preview of the move to the place that the command line names.
func planOf(ctx context.Context, admin operations.SubscriberAdmin, id, to string, forwards bool) (operations.MovePreview, error) {
	if to == "" {
		return operations.MovePreview{}, errUsage.With("name the place: --to sequence:N, position:N, time:2026-11-29T10:00:00Z, start or end")
	}
	target, err := httpapi.ParseMoveTarget(to)
	if err != nil {
		return operations.MovePreview{}, err
	}
	return admin.Plan(ctx, id, target, forwards)
}

// standsAt describes where lanes stand.
func standsAt(plan operations.MovePreview) string {
	if plan.Lowest == plan.Highest {
		return fmt.Sprintf("sequence %d", plan.Lowest)
	}
	return fmt.Sprintf("sequences %d to %d", plan.Lowest, plan.Highest)
}
