package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// maxListed bounds the memory that a list needs.
const maxListed = 1000

func (p *program) subscriberDeadCommand() *cobra.Command {
	asJSON, grouped := false, false
	cmd := &cobra.Command{
		Use:   "dead --id NAME [--groups]",
		Short: "List a subscriber's dead letters, with age, error and what waits behind them",
		Long: "List a subscriber's dead letters by position: what is dead, what is failing or being retried at the moment, and how many\n" +
			"later events of the same aggregate wait behind each. --groups counts the dead letters by reason, without the parts that differ\n" +
			"from event to event. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDeadLetters(cmd, func(ctx context.Context, admin operations.DeadLetterAdmin, id string) error {
				if grouped {
					return p.groupLetters(ctx, admin, id, asJSON)
				}
				letters, err := admin.Letters(ctx, id, maxListed+1)
				if err != nil {
					return err
				}
				if asJSON {
					return printLettersJSON(p.stdout, letters, func(event string) (inbox.Letter, error) { return admin.Letter(ctx, id, event) })
				}
				return printLetters(p.stdout, letters, id, time.Now())
			})
		},
	}
	config.AddFlags(cmd.Flags(), config.SubscriberID)
	cmd.Flags().BoolVar(&grouped, "groups", false, "count what is dead by its reason")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with headers and payloads")
	return cmd
}

// groupLetters prints the groups of a subscriber's dead letters.
func (p *program) groupLetters(ctx context.Context, admin operations.DeadLetterAdmin, id string, asJSON bool) error {
	groups, err := operating.UndecidedDeadLetters(admin, id).Groups(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(p.stdout, httpapi.ShowGroups(groups))
	}
	more := fmt.Sprintf(`Try a group again, once its cause is gone:  %s --group GROUP
Discard a group for ever:                   %s --group GROUP`,
		printable.Command("outboxie", "subscriber", "retry", "--id", id), printable.Command("outboxie", "subscriber", "discard", "--id", id))
	return printGroups(p.stdout, groups, time.Now(), wording.NothingDead(id), more)
}

func printLetters(out io.Writer, letters []inbox.Letter, id string, now time.Time) error {
	if len(letters) == 0 {
		_, err := fmt.Fprintf(out, "Subscriber %s has no dead letters.\n", id)
		return err
	}
	more := len(letters) > maxListed
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "EVENT\tPOSITION\tAGGREGATE\tSTATE\tAGE\tATTEMPTS\tBEHIND\tERROR")
	for _, letter := range letters[:min(len(letters), maxListed)] {
		position, aggregate := "-", "-"
		if letter.Readable() {
			position, aggregate = fmt.Sprint(letter.Position), printable.Text(letter.Key.String())
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", printable.Text(letter.ID), position, aggregate, printable.Text(string(letter.State)),
			now.Sub(letter.FirstFailedAt).Round(time.Second), letter.Attempts, letter.Behind, wording.FirstLine(letter.Error))
	}
	if err := table.Flush(); err != nil || !more {
		return err
	}
	_, err := fmt.Fprintf(out, "These are the first %d; there are more.\n", maxListed)
	return err
}

// letterJSON is the contract with scripts. A payload that is not JSON is a string of base64.
type letterJSON struct {
	EventID       string            `json:"event_id"`
	State         inbox.LetterState `json:"state"`
	Position      int64             `json:"position,omitempty"`
	AggregateType string            `json:"aggregate_type,omitempty"`
	AggregateID   string            `json:"aggregate_id,omitempty"`
	Version       int64             `json:"aggregate_version,omitempty"`
	Type          string            `json:"type,omitempty"`
	Subject       string            `json:"subject"`
	Error         string            `json:"error"`
	NoHandler     bool              `json:"no_handler,omitempty"`
	Attempts      int               `json:"attempts"`
	Behind        int               `json:"behind"`
	FirstFailedAt time.Time         `json:"first_failed_at"`
	DeadAt        *time.Time        `json:"dead_at,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	Payload       any               `json:"payload"`
}

func newLetterJSON(letter inbox.Letter) letterJSON {
	shown := letterJSON{
		EventID: letter.ID, State: letter.State, Position: int64(letter.Position),
		AggregateType: letter.Key.Type, AggregateID: letter.Key.ID, Version: letter.Version,
		Type: letter.Type, Subject: letter.Subject, Error: letter.Error, NoHandler: letter.NoHandler, Attempts: letter.Attempts, Behind: letter.Behind,
		FirstFailedAt: letter.FirstFailedAt.UTC(), Headers: letter.Headers, Payload: letter.Payload,
	}
	if !letter.DeadAt.IsZero() {
		dead := letter.DeadAt.UTC()
		shown.DeadAt = &dead
	}
	if json.Valid(letter.Payload) {
		shown.Payload = json.RawMessage(letter.Payload)
	}
	return shown
}

// printLettersJSON prints listed letters with their payloads. It reads and prints them one by one, because a payload may take megabytes.
// It leaves out letters that ended, or that wait behind another letter, since they were listed.
func printLettersJSON(out io.Writer, letters []inbox.Letter, read func(event string) (inbox.Letter, error)) error {
	const indent = "  "
	before, end := "[\n"+indent, "[]\n"
	for _, listed := range letters[:min(len(letters), maxListed)] {
		letter, err := read(listed.ID)
		if errors.Is(err, inbox.ErrNoLetter) || err == nil && (letter.State == inbox.Discarded || letter.State == inbox.Waiting) {
			continue
		}
		if err != nil {
			return err
		}
		shown, err := json.MarshalIndent(newLetterJSON(letter), indent, indent)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s%s", before, shown); err != nil {
			return err
		}
		before, end = ",\n"+indent, "\n]\n"
	}
	_, err := io.WriteString(out, end)
	return err
}
