package main

import (
	"context"
	"fmt"
	"strings"

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
			if _, err := fmt.Fprintln(p.stdout, strings.Join(wording.RewindPlan(plan), "\n")); err != nil {
				return err
			}
		}
		done, err := admin.Move(ctx, plan)
		if err != nil {
			return err
		}
		return p.changed(asJSON, httpapi.ShowMove(done, true), wording.RewindDone(done))
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
			return unconfirmed(wording.SkipPlan(plan))
		}
		done, err := admin.Move(ctx, plan)
		if err != nil {
			return err
		}
		return p.changed(asJSON, httpapi.ShowMove(done, true), wording.SkipDone(done))
	})
	cmd.Flags().StringVar(&to, "to", "", toHelp)
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	return cmd
}

// planOf returns the preview of the move to the place that the command line names.
func planOf(ctx context.Context, admin operations.SubscriberAdmin, id, to string, forwards bool) (operations.MovePreview, error) {
	if to == "" {
		return operations.MovePreview{}, errUsage.With("name the place: --to " + wording.Places)
	}
	target, err := wording.ParseMoveTarget(to)
	if err != nil {
		return operations.MovePreview{}, err
	}
	return admin.Plan(ctx, id, target, forwards)
}
