package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// withSubscribers runs work on all subscribers. NATS is not needed unless the work asks for the stream.
func (p *program) withSubscribers(cmd *cobra.Command, c config.Config, work func(ctx context.Context, admin operations.SubscriberAdmin) error) error {
	logger := slog.New(slog.DiscardHandler) // standard output belongs to the command; an error is returned, not logged
	nc, err := jetstream.Connect(engine.Broker(c, logger))
	if err != nil {
		return err
	}
	defer nc.Close()
	consumers, err := jetstream.NewSubscriberLags(nc, c.Stream.Name, c.Stream.Subjects)
	if err != nil {
		return err
	}
	return engine.WithDatabase(c, func(db *bun.DB) error {
		return work(cmd.Context(), operating.NewSubscribers(operating.SubscriberPorts{
			Operator: postgres.NewOperator(db), Stream: jetstream.NewStateReader(nc, engine.Reader(c, "", logger)), Lags: consumers,
			Log: postgres.NewInbox(db, postgres.InboxOptions{}),
		}))
	})
}

// operate runs work on the subscriber that the command names. An error says what to do about it.
func (p *program) operate(cmd *cobra.Command, work func(ctx context.Context, admin operations.SubscriberAdmin, id string) error) error {
	c, err := p.configure(cmd, config.DatabaseURL, config.SubscriberID)
	if err != nil {
		return err
	}
	return p.withSubscribers(cmd, c, func(ctx context.Context, admin operations.SubscriberAdmin) error {
		return engine.WithRemedy(work(ctx, admin, c.Subscriber.ID), c.Subscriber.ID)
	})
}

// unconfirmed ends a command that only showed what it would do to a subscriber.
func unconfirmed(plan string) error {
	return errUsage.With("this would %s; repeat the command with --yes", plan)
}

// changed prints, as JSON or in words, what a command did to a subscriber.
func (p *program) changed(asJSON bool, done httpapi.SubscriberChanged, words string) error {
	if asJSON {
		return printJSON(p.stdout, done)
	}
	_, err := fmt.Fprintln(p.stdout, words)
	return err
}

// planned prints, as JSON only, what a command would do to a subscriber. Without --json, the command's error says that in words.
func (p *program) planned(asJSON bool, would httpapi.SubscriberChanged) error {
	if !asJSON {
		return nil
	}
	return printJSON(p.stdout, would)
}

// verb adds to cmd the flags --id and --json, and a RunE that calls do with the subscriber of --id. It returns cmd.
func (p *program) verb(cmd *cobra.Command, do func(ctx context.Context, admin operations.SubscriberAdmin, id string, asJSON bool) error) *cobra.Command {
	asJSON := false
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.operate(cmd, func(ctx context.Context, admin operations.SubscriberAdmin, id string) error {
			return do(ctx, admin, id, asJSON)
		})
	}
	config.AddFlags(cmd.Flags(), config.SubscriberID)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (p *program) subscriberPauseCommand() *cobra.Command {
	return p.verb(&cobra.Command{
		Use:   "pause --id NAME",
		Short: "Stop a subscriber: nothing more takes effect until resume",
		Long: "Stop a subscriber. After this command no event and no dead letter of it takes effect, whatever copies run, until `resume`.\n" +
			"The command waits for open transactions. Copies keep running idle. Copies of a program older than this command ignore it.\n" +
			"Needs DATABASE_URL.",
	}, func(ctx context.Context, admin operations.SubscriberAdmin, id string, asJSON bool) error {
		if err := admin.Pause(ctx, id); err != nil {
			return err
		}
		return p.changed(asJSON, httpapi.SubscriberChanged{Subscriber: id, Verb: "pause", Done: true}, wording.PauseDone(id))
	})
}

func (p *program) subscriberResumeCommand() *cobra.Command {
	return p.verb(&cobra.Command{
		Use:   "resume --id NAME",
		Short: "Let a paused subscriber go on",
		Long:  "Let a paused subscriber go on, from where it stopped. Copies that run notice within a second. Needs DATABASE_URL.",
	}, func(ctx context.Context, admin operations.SubscriberAdmin, id string, asJSON bool) error {
		if err := admin.Resume(ctx, id); err != nil {
			return err
		}
		return p.changed(asJSON, httpapi.SubscriberChanged{Subscriber: id, Verb: "resume", Done: true}, wording.ResumeDone(id))
	})
}

func (p *program) subscriberLanesCommand() *cobra.Command {
	to := 0
	cmd := p.verb(&cobra.Command{
		Use:   "lanes --id NAME --to N",
		Short: "Give a subscriber another number of lanes",
		Long: "Give a subscriber another number of lanes, also while copies run. All new lanes begin where the slowest one stood; what was\n" +
			"applied is dropped when it is read again. One lane keeps the order of the stream, more keep that of each aggregate only\n" +
			"(SUBSCRIBER_LANES). Needs DATABASE_URL and NATS_URL.",
	}, func(ctx context.Context, admin operations.SubscriberAdmin, id string, asJSON bool) error {
		if to == 0 {
			return errUsage.With("give the number of lanes: --to N, from 1 to %d", inbox.MaxLanes)
		}
		at, before, err := admin.SetLanes(ctx, id, to)
		if err != nil {
			return err
		}
		return p.changed(asJSON, httpapi.SubscriberChanged{Subscriber: id, Verb: "lanes", Done: true, Sequence: &at, Lanes: &to},
			wording.LanesDone(id, to, before, at))
	})
	cmd.Flags().IntVar(&to, "to", 0, fmt.Sprintf("how many lanes: `N` from 1 to %d", inbox.MaxLanes))
	return cmd
}

func (p *program) subscriberIgnoreCommand() *cobra.Command {
	eventType, yes := "", false
	cmd := p.verb(&cobra.Command{
		Use:   "ignore --id NAME --type TYPE --yes",
		Short: "Let a subscriber ignore a type of events from now on",
		Long: "Let a subscriber ignore events of a type from now on. Its dead letters of that type are discarded for ever.\n" +
			"A copy that starts with a handler of the type wants it again. Needs DATABASE_URL, and --yes.",
	}, func(ctx context.Context, admin operations.SubscriberAdmin, id string, asJSON bool) error {
		if eventType == "" {
			return errUsage.With("name the type to ignore: --type TYPE")
		}
		if !yes {
			if err := p.planned(asJSON, httpapi.SubscriberChanged{Subscriber: id, Verb: "ignore"}); err != nil {
				return err
			}
			return unconfirmed(wording.IgnorePlan(id, eventType))
		}
		discarded, err := admin.Ignore(ctx, id, eventType)
		if err != nil {
			return err
		}
		return p.changed(asJSON, httpapi.SubscriberChanged{Subscriber: id, Verb: "ignore", Done: true, Discarded: &discarded},
			wording.IgnoreDone(id, eventType, discarded))
	})
	cmd.Flags().StringVar(&eventType, "type", "", "the `TYPE` of events")
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	return cmd
}

func (p *program) subscriberForgetCommand() *cobra.Command {
	lift, yes := false, false
	cmd := p.verb(&cobra.Command{
		Use:   "forget --id NAME (--yes | --lift)",
		Short: "End a subscriber for ever, and remove its lanes, types, dead letters and inbox",
		Long: "End a subscriber: its lanes, its types, its dead letters and its inbox are deleted; its effects stay. A tombstone stays:\n" +
			"running copies end, and no new copy begins. A large inbox is removed in pieces: if the command is interrupted, run it\n" +
			"again. --lift removes the tombstone, so that a new subscriber of that name may begin with the first event.\n" +
			"Needs DATABASE_URL, and --yes.",
	}, func(ctx context.Context, admin operations.SubscriberAdmin, id string, asJSON bool) error {
		switch {
		case lift && yes:
			return errUsage.With("choose either --yes, to forget the subscriber, or --lift, to let it begin again")
		case lift:
			if err := admin.RemoveTombstone(ctx, id); err != nil {
				return err
			}
			return p.changed(asJSON, httpapi.SubscriberChanged{Subscriber: id, Verb: "lift", Done: true}, wording.LiftDone(id))
		case !yes:
			if err := p.planned(asJSON, httpapi.SubscriberChanged{Subscriber: id, Verb: "forget"}); err != nil {
				return err
			}
			return unconfirmed(wording.ForgetPlan(id))
		}
		erased, err := admin.Forget(ctx, id)
		if errors.Is(err, inbox.ErrNoSubscriber) {
			return err
		}
		if err != nil {
			return wording.ForgetInterrupted(id, erased, err)
		}
		return p.changed(asJSON, httpapi.SubscriberChanged{Subscriber: id, Verb: "forget", Done: true, Erased: &erased},
			wording.ForgetDone(id, erased))
	})
	cmd.Flags().BoolVar(&lift, "lift", false, "remove the tombstone")
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	return cmd
}
