package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/opening"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// eraseCommandPath is the path of the command whose audit does not have its arguments.
const eraseCommandPath = "outboxie erase"

func (p *program) eraseCommand() *cobra.Command {
	yes, asJSON := false, false
	cmd := &cobra.Command{
		Use:   "erase CUSTOMER [--yes]",
		Short: "Erase the personal data of a customer",
		Long: "Erase the personal data of a customer: the customer's orders get a pseudonym and lose their notes, the idempotency keys are\n" +
			"deleted, the totals get the pseudonym, dead letters with plain events are discarded and lose their payloads, and the\n" +
			"customer's key is deleted, so that nobody can open the customer's sealed events. Plain events stay in the log and in the\n" +
			"stream: see docs/personal-data.md. Shows what it would do; --yes does it. It may be run any number of times.\n" +
			"Needs DATABASE_URL.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errUsage.With("name one customer by its id: outboxie erase CUSTOMER")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			customer, err := value.ParseCustomerID(args[0])
			if err != nil {
				return err
			}
			c, err := p.configure(cmd, config.DatabaseURL)
			if err != nil {
				return err
			}
			return engine.WithDatabase(c, func(db *bun.DB) error {
				eraser := ordering.NewEraser(postgres.NewPersonalData(db), func() value.CustomerID { return value.CustomerID(uuid.NewString()) })
				return p.erase(cmd.Context(), eraser, customer, yes, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// erasure is the JSON of what a customer has, or had before Done.
type erasure struct {
	Done          bool            `json:"done"`
	Key           bool            `json:"key"`
	Orders        int             `json:"orders"`
	Requests      int             `json:"idempotency_keys"`
	Totals        int             `json:"totals"`
	Letters       int             `json:"dead_letters"`
	SealedLetters int             `json:"sealed_dead_letters"`
	PlainEvents   int             `json:"plain_events"`
	SealedEvents  int             `json:"sealed_events"`
	Parked        int             `json:"parked_events"`
	Behind        []erasureBehind `json:"behind"`
}

type erasureBehind struct {
	Subscriber string `json:"subscriber"`
	Events     int    `json:"events"`
}

func (p *program) erase(ctx context.Context, eraser orders.Eraser, customer value.CustomerID, yes, asJSON bool) error {
	work := eraser.Inspect
	if yes {
		work = eraser.Erase
	}
	found, err := work(ctx, customer)
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(p.stdout, erasureOf(found, yes))
	} else {
		_, err = fmt.Fprint(p.stdout, describeErasure(found, yes))
	}
	if err == nil && !yes && found.Erasable() {
		return errUnconfirmed
	}
	return err
}

func erasureOf(d orders.CustomerData, done bool) erasure {
	shown := erasure{
		Done: done, Key: d.Key, Orders: d.Orders, Requests: d.Requests, Totals: d.Totals, Letters: d.Letters, SealedLetters: d.SealedLetters,
		PlainEvents: d.PlainEvents, SealedEvents: d.SealedEvents, Parked: d.Parked, Behind: []erasureBehind{},
	}
	for _, behind := range d.Behind {
		shown.Behind = append(shown.Behind, erasureBehind(behind))
	}
	return shown
}

// describeErasure says what a customer has, or had before the erasure, and what stays.
func describeErasure(d orders.CustomerData, done bool) string {
	var text strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	if d.Erasable() {
		say("%s: they get a pseudonym and lose their notes", wording.Counted(d.Orders, "order"))
		say("%s: deleted", wording.Counted(d.Requests, "idempotency key"))
		say("%s: they get the pseudonym", wording.Counted(d.Totals, "row")+" of totals")
		say("%s with plain events: discarded, without their payloads", wording.Counted(d.Letters, "dead letter"))
		if d.Key {
			say("the key of the customer: deleted, so nobody can open %s and %s", wording.Counted(d.SealedEvents, "sealed event"),
				wording.Counted(d.SealedLetters, "sealed dead letter"))
		}
	} else {
		say("Nothing is left to erase.")
	}
	if d.PlainEvents > 0 {
		say("\n%s of these orders stay in the log until its retention ends, and in the stream until its limits remove them.",
			wording.Counted(d.PlainEvents, "plain event"))
	}
	if d.Parked > 0 {
		say("%s in the parking lot. Redriving publishes an event as it was sealed or not.", wording.Counted(d.Parked, "event")+" of these orders wait")
	}
	if len(d.Behind) > 0 {
		say("\nSubscribers that have not applied all events of the customer:")
		for _, behind := range d.Behind {
			say("  %s: %s", printable.Text(behind.Subscriber), wording.Counted(behind.Events, "event"))
		}
		say("Sealed events have no effect there after the erasure. Plain events bring the customer's id back: if there are any, run the command again\n" +
			"when the subscriber has applied them.")
	}
	if done && d.Erasable() {
		say("\nDone. The customer is erased. Subscribers that run may use the key for %s more, and requests under way may commit later: run the\n"+
			"command again after a minute, to see that nothing is left.", opening.Forget)
	}
	return text.String()
}

// auditedCustomer is what the audit has instead of a customer's id. Who knows the id can show that the line is about this customer.
func auditedCustomer(args []string) string {
	customer, err := value.ParseCustomerID(strings.Join(args, " "))
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256([]byte(customer))
	return "sha256:" + hex.EncodeToString(sum[:])
}
